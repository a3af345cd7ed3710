"""Tasks on places: who begins when, computed by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fire_opd.runtime.simulate import Task, simulate


def test_a_task_waits_for_all_before_it() -> None:
    tasks = {"a": Task(2.0), "b": Task(3.0), "c": Task(1.0, ("a", "b")), "end": Task(0.0, ("c",))}
    spans = simulate(tasks)
    assert spans["c"][:2] == (3.0, 4.0)
    assert spans["end"][:2] == (4.0, 4.0)


def test_two_engines_pull_five_chunks() -> None:
    """3.5, 1, 1, 1, 1 seconds: the second engine does the other four; dealt out in turn it would have had two."""
    engines = (("engine.0",), ("engine.1",))
    spans = simulate({f"chunk {n}": Task(3.5 if n == 0 else 1.0, (), engines) for n in range(5)})
    assert [span.place[0][-1] for span in spans.values()] == ["0", "1", "1", "1", "1"]
    assert [span.end for span in spans.values()] == [3.5, 1.0, 2.0, 3.0, 4.0]


def test_who_became_ready_first_has_a_shared_place_first() -> None:
    tasks = {"long": Task(5.0, (), (("gpu",),)), "short": Task(1.0)}
    tasks |= {"later": Task(1.0, ("short",), (("gpu",),)), "sooner": Task(2.0, (), (("gpu",),))}
    spans = simulate(tasks)
    assert (spans["sooner"].start, spans["later"].start) == (5.0, 7.0)


def test_who_finds_a_place_does_not_wait_for_one_that_finds_none() -> None:
    """Two of three cores are taken: what wants two waits, what wants one goes ahead."""
    tasks = {
        "two": Task(4.0, (), (("core", "core"),)),
        "two more": Task(1.0, (), (("core", "core"),)),
        "one": Task(1.0, (), (("core",),)),
    }
    spans = simulate(tasks, {"core": 3})
    assert (spans["one"].start, spans["two more"].start) == (0.0, 4.0)


@pytest.mark.parametrize(
    "task", [Task(1.0, ("nobody",)), Task(1.0, ("lost",)), Task(1.0, (), (("core", "core"),))], ids=str
)
def test_what_can_never_begin_is_named(task: Task) -> None:
    with pytest.raises(ValueError, match="lost can never begin"):
        simulate({"fine": Task(1.0), "lost": task})


TASK = st.tuples(st.integers(0, 5), st.sets(st.integers(0, 8)), st.lists(st.text("ab", max_size=2), min_size=1))


@given(st.lists(TASK, max_size=9))
def test_nothing_begins_too_soon_or_on_a_place_that_is_taken(drawn: list[tuple[int, set[int], list[str]]]) -> None:
    """Whatever waits for what: each after those before it, each name held at most twice, and somebody always works."""
    tasks = {
        str(n): Task(float(seconds), tuple(str(k) for k in before if k < n), tuple(tuple(names) for names in places))
        for n, (seconds, before, places) in enumerate(drawn)
    }
    spans = simulate(tasks, {"a": 2, "b": 2})
    for name, span in spans.items():
        assert span.place in tasks[name].places
        assert span.end == span.start + tasks[name].seconds
        assert all(spans[earlier].end <= span.start for earlier in tasks[name].after)
        at_work = [other for other in spans.values() if other.start <= span.start < other.end]
        for held in "ab":
            assert sum(other.place.count(held) for other in at_work) <= 2
        assert span.start == 0 or any(other.end == span.start for other in spans.values())
