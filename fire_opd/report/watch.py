"""A run at work, seen from its folder alone: what is done, what is being done and since when, how long it may take."""

import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import psutil
from rich.console import Console
from rich.live import Live
from rich.text import Text

from fire_opd.evaluation.figure import figure_of
from fire_opd.report.figures import measured, round_figures, round_line
from fire_opd.runtime.ledger import read_attempts
from fire_opd.runtime.lock import FileLock
from fire_opd.stages import jobs_of, last_directory
from fire_opd.storage import Run
from fire_opd.storage.manifest import MANIFEST
from fire_opd.storage.run import LOCK

_EVERY = 2.0  # seconds between two looks
_BARS = "▁▂▃▄▅▆▇█"
_WIDTH = 60
_LATELY = 5  # rounds that say how long one takes

Recorded = Callable[[], int | None]
"""The round up to which the run is recorded; None where it is not."""


def watch(run: Run, recorded: Recorded, console: Console) -> None:
    """Show the run until nobody works on it: a view that is drawn again in a terminal, a line a round in a pipe."""
    if not console.is_terminal:
        shown = -1
        while True:
            held, done = _held(run), rounds_done(run, shown)
            for number in range(shown + 1, done + 1):
                console.print(round_line(run, number), highlight=False, markup=False, soft_wrap=True)
            shown = done
            if not held:
                return
            time.sleep(_EVERY)
    with Live(console=console, auto_refresh=False) as live:
        held, figures = True, list[dict[str, Any]]()
        while held:
            held = _held(run)  # before the look: what ends meanwhile is seen once more
            live.update(Text("\n".join(view(run, recorded(), figures))), refresh=True)
            time.sleep(_EVERY if held else 0)


def view(run: Run, recorded: int | None, figures: list[dict[str, Any]]) -> list[str]:
    """What there is to see now, in lines.

    Args:
        run: to look at.
        recorded: the round up to which it is recorded; None where it is not.
        figures: of the rounds that an earlier look has read; those that are complete by now are added.
    """
    held, done, count = _held(run), rounds_done(run, len(figures) - 1), run.spec.rounds.count
    figures += [round_figures(run, number) for number in range(len(figures), done + 1)]
    state = "complete" if done == count else f"{'at work' if held else 'stopped'}, round {done + 1} of {count}"
    lines = [f"{run.name} · {run.spec.method.name} · {state}"]
    if figures:
        figure, values = figure_of(run.spec.evaluation), [f["held_out"]["value"] for f in measured(figures)]
        lines.append(f"{figure.name} {figure.show(values[0])} {sparkline(values)} {figure.show(values[-1])}")
    if done < count:
        since = _since(run, done)
        lines.append("   ".join(_stages(run, done + 1, since)))
        lines += filter(None, [remaining(figures[1:], count - done, since)])
    lines += ["engines " + ", ".join(_engines(run))] if held else []
    if recorded is not None:
        lines.append(f"recorded up to round {recorded}" if recorded >= 0 else "nothing is recorded yet")
    return lines


def rounds_done(run: Run, known: int = -1) -> int:
    """The last complete round, where `known` is; -1 where not even the student before training was evaluated."""
    done = known
    while done < run.spec.rounds.count and run.path(f"{last_directory(run.spec, done + 1)}/{MANIFEST}").is_file():
        done += 1
    return done


def sparkline(values: list[float]) -> str:
    """Values as bars, at most `_WIDTH` of them, evenly; the lowest as the lowest bar."""
    values = values[:: -(-len(values) // _WIDTH)]
    low, span = min(values), max(values) - min(values) or 1.0
    return "".join(_BARS[round((value - low) / span * (len(_BARS) - 1))] for value in values)


def _stages(run: Run, number: int, since: float) -> Iterator[str]:
    """Each stage of a round: ✓ and its seconds, … and since when, or its name alone while it waits."""
    reached = False
    for job in jobs_of(run, number):
        attempts = read_attempts(run.path(f"ledger/{number}/{job.label}.json"))
        if all((job.directory(output.directory) / MANIFEST).is_file() for output in job.stage.outputs[-1:]):
            yield f"✓ {job.label} {sum(attempt['seconds'] for attempt in attempts):.1f} s"
            continue
        chunks = [all(part.place(output).is_dir() for output in job.stage.outputs) for part in job.chunks]
        part = f" {sum(chunks)}/{len(chunks)} chunks" if any(chunks) else ""
        failed = sum(attempt["outcome"] != "done" for attempt in attempts)
        again = f", attempt {failed + 1}" if failed else ""
        yield job.label if reached else f"… {job.label} {since:.0f} s{part}{again}"
        reached = True


def _since(run: Run, done: int) -> float:
    """Seconds since the last attempt of a stage ended; of the folder's life where none has."""
    files = [file for number in (done, done + 1) for file in run.path(f"ledger/{number}").glob("*.json")]
    ended = [attempts[-1]["ended"] for file in files if (attempts := read_attempts(file))]
    begun = datetime.fromisoformat(max(ended)).timestamp() if ended else run.path(".").stat().st_ctime
    return max(datetime.now(UTC).timestamp() - begun, 0)


def remaining(trained: list[dict[str, Any]], left: int, since: float = 0.0) -> str:
    """How long a round takes lately, and what is left of the run; nothing before a round is trained.

    Args:
        trained: figures of the rounds so far, without round 0.
        left: how many are to come.
        since: seconds that the next one has had already.
    """
    if not trained:
        return ""
    lately = trained[-_LATELY:]
    each, seconds = statistics.median(f["seconds"] for f in lately), sum(f["seconds"] for f in lately)
    rate = f", {sum(f['tokens'] for f in lately) / seconds:,.0f} trained tokens/s" if seconds else ""
    return f"a round takes {each:.1f} s{rate}; about {max(left * each - since, 0) / 60:.1f} min left"


def _engines(run: Run) -> list[str]:
    """Memory of this run's engines on this machine, by role."""
    found: Counter[str] = Counter()
    for process in psutil.process_iter(["cmdline", "memory_info"]):
        command = process.info["cmdline"] or []
        if {"fire_opd.engines.main", str(run.folder), "--role"} <= set(command) and process.info["memory_info"]:
            found[command[command.index("--role") + 1]] += process.info["memory_info"].rss
    return [f"{role} {size / 2**30:.1f} GiB" for role, size in sorted(found.items())]


def _held(run: Run) -> bool:
    return FileLock(run.folder / LOCK).held()
