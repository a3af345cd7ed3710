"""Several engines of a role share the chunks of a round: who is free takes the next one.

An engine that dies costs the chunk it was at, which goes back to the others; it is started again with the next chunk
that it takes. Dead twice in a row, it is given up for this stage: a broken device must not cost every chunk. The stage
fails when none is left.
"""

from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed, wait
from threading import Condition

from fire_opd.errors import EngineDied
from fire_opd.runtime.tick import Tick

_DEATHS = 2  # in a row, before a replica is given up


class _Chunks:
    """The chunks of a stage: waiting, at work, done."""

    def __init__(self, number: int) -> None:
        self._waiting, self._at_work, self._total = deque(range(number)), 0, number
        self._changed, self._stopped = Condition(), False

    def take(self) -> int | None:
        """The next chunk; while others are at work on the last ones, wait for what may come back. None: no more."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self._waiting or not self._at_work)
            if self._stopped or not self._waiting:
                return None
            self._at_work += 1
            return self._waiting.popleft()

    def finish(self, lost: int | None = None) -> int:
        """A chunk is done, or lost and waits again; returns how many are done."""
        with self._changed:
            self._at_work -= 1
            if lost is not None:
                self._waiting.append(lost)
            self._changed.notify_all()
            return self._total - len(self._waiting) - self._at_work

    def stop(self) -> None:
        """Nobody takes another one."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def complete(self) -> bool:
        """Whether none waits any more."""
        return not self._waiting


def share_out(
    chunks: int,
    replicas: int,
    make: Callable[[int, int], None],
    *,
    abort: Callable[[], None],
    log: Callable[[str], None],
    tick: Tick,
) -> None:
    """Let replicas make all chunks; each has a thread of this process that waits for it.

    Args:
        chunks: their number.
        replicas: their number.
        make: lets a replica (the first number) make a chunk (the second), and starts the replica where it is not live.
        abort: ends all replicas, so that every `make` raises EngineDied soon.
        log: takes a line for each death.
        tick: called with chunks done and all.

    Raises:
        EngineDied: every replica was given up; the last death.
        FireOpdError: what else a replica found wrong; the others are ended.
    """
    work, deaths = _Chunks(chunks), list[EngineDied]()

    def replica_works(replica: int) -> None:
        in_a_row = 0
        while in_a_row < _DEATHS and (chunk := work.take()) is not None:
            try:
                make(replica, chunk)
            except EngineDied as error:
                in_a_row += 1
                deaths.append(error)
                work.finish(lost=chunk)
                log(f"lost chunk {chunk}, which waits again: {str(error).partition('; ')[0]}")
            except BaseException:
                work.stop()
                raise
            else:
                in_a_row = 0
                tick(work.finish(), chunks)

    with ThreadPoolExecutor(replicas) as threads:
        workers = [threads.submit(replica_works, number) for number in range(replicas)]
        try:
            for worker in as_completed(workers):
                worker.result()
        except BaseException:  # also a stop of this process, which must not wait for the chunks at work
            work.stop()
            while wait(workers, timeout=0).not_done:
                abort()  # again: a replica may just be starting
                wait(workers, timeout=1)
            raise
    if not work.complete():
        raise deaths[-1]
