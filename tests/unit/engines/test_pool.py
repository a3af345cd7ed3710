"""Replicas share chunks: each is made once, a lost one by somebody else, and what cannot go on ends."""

from collections import Counter
from threading import Barrier, Event

import pytest

from fire_opd.engines.pool import share_out
from fire_opd.errors import EngineDied, MismatchError
from fire_opd.runtime.tick import no_tick


def nothing() -> None:
    """No engine to end."""


def test_every_chunk_is_made_once_by_whoever_is_free() -> None:
    made, ticks, together = Counter[int](), list[tuple[int, int]](), Barrier(2, timeout=30)

    def make(replica: int, chunk: int) -> None:
        if chunk < 2:
            together.wait()  # the first two chunks are at work at the same time
        made[chunk] += 1

    share_out(5, 2, make, abort=nothing, log=print, tick=lambda done, total: ticks.append((done, total)))
    assert made == dict.fromkeys(range(5), 1)
    assert sorted(ticks) == [(done, 5) for done in range(1, 6)]


def test_a_lost_chunk_is_made_by_another_that_had_nothing_left_to_do() -> None:
    """The last chunk but one is lost when the other replica has done its own, and waits."""
    other_done, made, said = Event(), list[tuple[int, int]](), list[str]()

    def make(replica: int, chunk: int) -> None:
        if chunk == 0 and not other_done.is_set():
            assert other_done.wait(30)
            raise EngineDied("engine a ended with status 137 (killed); end of its log")
        made.append((replica, chunk))
        other_done.set()

    share_out(2, 2, make, abort=nothing, log=said.append, tick=no_tick)
    assert sorted(chunk for _, chunk in made) == [0, 1]
    assert said == ["lost chunk 0, which waits again: engine a ended with status 137 (killed)"]


def test_a_replica_that_dies_twice_in_a_row_is_given_up() -> None:
    tried = Counter[int]()
    broken_tried = Event()

    def make(replica: int, chunk: int) -> None:
        tried[replica] += 1
        if replica == 1:
            if tried[1] == 2:
                broken_tried.set()
            raise EngineDied("its device is broken")
        assert broken_tried.wait(30)

    share_out(6, 2, make, abort=nothing, log=print, tick=no_tick)
    assert tried == {0: 6, 1: 2}


def test_a_chunk_that_kills_every_replica_ends_the_stage() -> None:
    made = set[int]()

    def make(replica: int, chunk: int) -> None:
        if chunk == 1:
            raise EngineDied("poison")
        made.add(chunk)

    with pytest.raises(EngineDied, match="poison"):
        share_out(4, 2, make, abort=nothing, log=print, tick=no_tick)
    assert made == {0, 2, 3}


@pytest.mark.parametrize("error", [MismatchError("stale"), KeyboardInterrupt()])
def test_another_error_ends_those_at_work(error: BaseException) -> None:
    """Those at work are ended, not waited for."""
    both, ended, begun = Barrier(2, timeout=30), Event(), list[int]()

    def make(replica: int, chunk: int) -> None:
        begun.append(chunk)
        both.wait()
        if chunk == 0:
            raise error
        assert ended.wait(30)
        raise EngineDied("ended")

    with pytest.raises(type(error)):
        share_out(9, 2, make, abort=ended.set, log=print, tick=no_tick)
    assert sorted(begun) == [0, 1]  # and none is begun again, with an engine that would have to load
