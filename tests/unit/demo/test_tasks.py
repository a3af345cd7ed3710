import json
from random import Random

import pytest

from fire_opd.demo import tasks


def test_the_examples_of_the_docstring_are_right() -> None:
    assert tasks.solve("M314+279=") == "0593"
    assert tasks.solve("Crvs:abcd=") == "bcad"
    assert tasks.write_out("Crvs:abcd=", Random(0)).translate(str.maketrans(",.", ";;")) == "r>dabc;v>cbad;s>bcad;#bcad"


@pytest.mark.parametrize(
    ("name", "after"), [("l", "bcza"), ("r", "zabc"), ("s", "bacz"), ("v", "zcba"), ("c", "abca"), ("i", "bbcz")]
)
def test_each_operation(name: str, after: str) -> None:
    assert tasks.OPERATIONS[name]("abcz") == after


def test_increment_wraps_at_the_end_of_the_alphabet() -> None:
    assert tasks.OPERATIONS["i"]("zoo") == "aoo"


@pytest.mark.parametrize("domain", tasks.DOMAINS)
@pytest.mark.parametrize("hard", [False, True])
def test_every_scratchpad_is_right_and_fits(domain: str, hard: bool) -> None:
    rng = Random(1)
    for _ in range(300):
        prompt = tasks.draw_prompt(domain, rng, hard=hard)
        response = tasks.write_out(prompt, rng)
        assert tasks.is_correct(response, tasks.solve(prompt))
        assert len(response) + 1 <= tasks.MAX_RESPONSE
        steps = response.partition(tasks.MARK)[0]
        for separator in tasks.SEPARATORS:
            steps = steps.replace(separator, " ")
        if domain == "m":
            assert all(sum(map(int, s[:-3].split("+"))) == int(s[-2:]) for s in steps.split())
            assert int("".join(s[-1] for s in reversed(steps.split()))) == int(tasks.solve(prompt)[1:])


def test_the_freedoms_are_used() -> None:
    responses = {tasks.write_out("M123+456=", Random(seed)) for seed in range(200)}
    assert len({r[0] for r in responses}) == 2
    assert {r[8] for r in responses} == set(tasks.SEPARATORS)


@pytest.mark.parametrize("response", ["0593", "#0593#0593", "x#593", "x#0593 ", "#"])
def test_wrong_responses(response: str) -> None:
    assert not tasks.is_correct(response, "0593")


def test_no_training_prompt_is_held_out_or_used_to_stop() -> None:
    held_out, validation = tasks.held_out(), tasks.validation()
    assert len(held_out) == 400
    assert [sum(p.domain == d for p in held_out) for d in tasks.DOMAINS] == [200, 200]
    assert not {p.prompt for p in held_out} & {p.prompt for p in validation}
    kept_away = {p.prompt for p in held_out + validation}
    for clean in (False, True):
        assert not kept_away & {p.prompt for p in tasks.training(clean=clean)}


def test_mixed_set_has_30_percent_beyond_the_teachers_and_the_clean_one_none() -> None:
    mixed, clean = tasks.training(clean=False), tasks.training(clean=True)
    assert len({p.prompt for p in mixed}) == len({p.prompt for p in clean}) == 15_360
    assert len({p.id for p in mixed}) == 15_360
    assert sum(p.hard for p in mixed) == 4608
    assert not any(p.hard for p in clean)
    for problem in mixed:
        size = (
            len(problem.prompt.split("+")[0]) - 1
            if problem.domain in ("m", "m-hard")
            else problem.prompt.index(":") - 1
        )
        assert (size in (5, 6, 7)) == problem.hard
        assert problem.answer == tasks.solve(problem.prompt)


def test_teachers_never_see_a_reserved_prompt() -> None:
    stream = tasks.examples("m", Random("seed"), exclude=())
    first = next(stream)[0]
    assert next(tasks.examples("m", Random("seed"), exclude={first}))[0] != first


def test_prompt_files_have_one_object_a_line(tmp_path) -> None:  # type: ignore[no-untyped-def]
    tasks.write_problems(tmp_path / "p.jsonl", tasks.held_out())
    lines = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert len(lines) == 400
    assert set(lines[0]) == {"id", "prompt", "answer", "domain"}
