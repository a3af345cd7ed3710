"""How long a run's rounds take on its placement: the stages of flows/distill.py, simulated from the seconds of each.

Stages wait for one another as in the flow; an engine does one thing at a time; a GPU that two roles share serves them
one after the other, and so do the cores where engines want more threads than there are; replicas pull chunks. Loading,
and whatever else runs on the machine, are in the seconds or nowhere.
"""

from collections.abc import Callable, Mapping
from itertools import pairwise
from statistics import median
from typing import NamedTuple

from fire_opd.runtime.simulate import Place, Task, simulate
from fire_opd.spec import RunSpec
from fire_opd.stages import STAGES, judging

Seconds = Callable[[int, str, range], float]  # that an engine works: of a round, a stage, and some of its rollouts

_SAMPLE = ("rollout", "score", "select")


class Schedule(NamedTuple):
    """When rounds end, and what share of the time each engine is at work."""

    ends: list[float]  # seconds from the start of round 1
    busy: dict[str, float]  # by engine, such as `sampler.0`

    @property
    def round_seconds(self) -> float:
        """Of a round when it has settled: the first one of a round ahead is longer, its last one shorter."""
        return median(after - before for before, after in pairwise([0.0, *self.ends]))


def by_rows(spec: RunSpec, seconds: Callable[[int, str], float]) -> Seconds:
    """Seconds of whole stages, of all engines together, dealt out by rollouts."""
    return lambda n, stage, rows: seconds(n, stage) * len(rows) / spec.rounds.rollouts


def schedule(spec: RunSpec, seconds: Seconds, cores: int) -> Schedule:
    """Simulate all rounds of a run.

    Args:
        spec: rounds, chunks, staleness and placement are read.
        seconds: of a stage by round and name, for the rollouts of a chunk, or all where it is not cut.
        cores: of the machine, where `placement.device` is the CPU.
    """
    spans = simulate(tasks_of(spec, seconds, cores), {"core": cores})
    ends = [spans[f"{n}/done"].end for n in range(1, spec.rounds.count + 1)]
    busy: dict[str, float] = {}
    for span in spans.values():
        if span.place:
            busy[span.place[0]] = busy.get(span.place[0], 0.0) + span.end - span.start
    return Schedule(ends, {engine: at_work / (ends[-1] or 1.0) for engine, at_work in sorted(busy.items())})


def tasks_of(spec: RunSpec, seconds: Seconds, cores: int) -> Mapping[str, Task]:
    """The tasks of all rounds: `<round>/<stage>.<chunk>`, `<round>/<stage>` when all are done, `<round>/done`."""
    tasks: dict[str, Task] = {}

    def add(after: tuple[str, ...], n: int, *stages: str) -> tuple[str, ...]:
        """Stages of round n, one after the other; returns what the next one waits for."""
        for stage in stages:
            name, places, chunks = f"{n}/{stage}", places_of(spec, stage, cores), _chunks(spec, stage)
            parts = {f"{name}.{k}": Task(seconds(n, stage, rows), after, places) for k, rows in enumerate(chunks)}
            tasks.update(parts)
            tasks[name] = Task(0.0, tuple(parts))
            after = (name,)
        return after

    ended = add((), 1, *_SAMPLE) if spec.rounds.staleness else ()
    for n in range(1, spec.rounds.count + 1):
        judge = [stage.name for stage in judging(spec, n)]
        if not spec.rounds.staleness:
            ended = add(ended, n, *_SAMPLE, "train", *judge)
        else:  # all that begins with round n waits for the end of round n - 1
            beside = add(ended, n, "train", *judge)
            ended = (*beside, *(add(ended, n + 1, *_SAMPLE) if n < spec.rounds.count else ()))
        tasks[f"{n}/done"] = Task(0.0, ended)
        ended = (f"{n}/done",)
    return tasks


def places_of(spec: RunSpec, stage: str, cores: int) -> tuple[Place, ...]:
    """Where a stage, or a chunk of it, can be done: the engine of each replica, with its GPUs or its cores."""
    role, device = STAGES[stage].role, spec.placement.device
    if role == "local":
        return (("local", "core") if device == "cpu" else ("local",),)
    place = getattr(spec.placement, role)
    several = place.replicas if "rounds.chunk" in STAGES[stage].params else 1  # the first one does what is not cut
    found: list[Place] = []
    for replica in range(several):
        engine = f"{role}.{replica}"
        if device == "cuda":
            found.append((engine, *sorted({f"gpu {gpu}" for gpu in place.devices_of(replica)})))
        else:
            ranks = len(place.devices) if role == "trainer" else 1
            found.append((engine, *["core"] * min(place.threads * ranks, cores)))
    return tuple(found)


def _chunks(spec: RunSpec, stage: str) -> list[range]:
    """The rollouts of each piece of work in a stage: the chunks of one that is cut."""
    rounds = spec.rounds
    size = (rounds.chunk if "rounds.chunk" in STAGES[stage].params else None) or rounds.rollouts
    return [range(first, min(first + size, rounds.rollouts)) for first in range(0, rounds.rollouts, size)]
