"""When tasks end that wait for one another and for places: engines, devices, cores. Nothing is run.

Who became ready first begins first; a later task that finds a free place does not wait for an earlier one that finds
none. A task keeps its place until it ends.
"""

import heapq
from collections import Counter, defaultdict, deque
from collections.abc import Mapping
from itertools import count
from typing import NamedTuple

Place = tuple[str, ...]  # names of what is held together; a name that is repeated is held as many times


class Task(NamedTuple):
    """Work of some seconds, after other tasks, at the first place of several that is free."""

    seconds: float
    after: tuple[str, ...] = ()
    places: tuple[Place, ...] = ((),)


class Span(NamedTuple):
    """When a task was at work, in seconds from the start, and at which of its places."""

    start: float
    end: float
    place: Place


def simulate(tasks: Mapping[str, Task], capacity: Mapping[str, int] | None = None) -> dict[str, Span]:
    """The span of each task.

    Args:
        tasks: by name; of two that become ready at one time, the first one here begins first.
        capacity: how many times a name can be held at one time, where it is not once.

    Raises:
        ValueError: a task can never begin: it waits for an unknown one, for itself, or for more than there is.
    """
    missing, followers = {name: len(task.after) for name, task in tasks.items()}, defaultdict[str, list[str]](list)
    for name, task in tasks.items():
        for earlier in task.after:
            followers[earlier].append(name)
    queues, order = defaultdict[tuple[Place, ...], deque[tuple[int, str]]](deque), count()
    spans, running, held, now = dict[str, Span](), list[tuple[float, int, str]](), Counter[str](), 0.0

    def free(place: Place) -> bool:
        return all(held[name] + times <= (capacity or {}).get(name, 1) for name, times in Counter(place).items())

    def next_to_begin() -> tuple[tuple[int, str], Place] | None:
        firsts = [(queue[0], next(filter(free, places), None)) for places, queue in queues.items() if queue]
        return min(((first, place) for first, place in firsts if place is not None), default=None)

    ready = [name for name, before in missing.items() if not before]
    while True:
        for name in ready:
            queues[tasks[name].places].append((next(order), name))
        while begins := next_to_begin():
            (number, name), place = begins
            queues[tasks[name].places].popleft()
            held.update(place)
            spans[name] = Span(now, now + tasks[name].seconds, place)
            heapq.heappush(running, (spans[name].end, number, name))
        if not running:
            break
        ready, now = [], running[0][0]
        while running and running[0][0] == now:
            ended = heapq.heappop(running)[2]
            held.subtract(spans[ended].place)
            for name in followers[ended]:
                missing[name] -= 1
                if not missing[name]:
                    ready.append(name)
    if stuck := next((name for name in tasks if name not in spans), None):
        raise ValueError(f"{stuck} can never begin: it waits for {tasks[stuck].after}, then for {tasks[stuck].places}")
    return spans
