"""A training prompt leaks when it asks what a held-out one asks: by the user's turns, or with the system's where that
is where the task stands."""

from collections.abc import Sequence

import pytest

from fire_opd.prompts import RawPrompt
from fire_opd.prompts.leaks import LeakTest

Pair = tuple[str | None, str]  # system, user


def raw(system: str | None, *user: str) -> RawPrompt:
    messages = tuple(("user", text) for text in user)
    return RawPrompt(1, messages if system is None else (("system", system), *messages), None, None, None, None)


def leaking(training: Sequence[Pair], held_out: Sequence[Pair]) -> list[Pair]:
    test = LeakTest(lambda: [raw(*pair) for pair in training])
    for pair in held_out:
        test.hold_out(raw(*pair))
    return [pair for pair in training if test.leaks(raw(*pair))]


PUZZLES = [(f"Puzzle {n}: knights and knaves …", "Begin.") for n in range(20)]
SUMS = [(None, f"{n}+{n}?") for n in range(20)]


def test_a_task_in_the_system_turn_is_compared_with_it() -> None:
    assert leaking(PUZZLES[:10], PUZZLES[10:]) == []
    assert leaking(PUZZLES[:10], PUZZLES[19:]) == []
    assert leaking(PUZZLES[:10], PUZZLES[8:]) == PUZZLES[8:10]
    assert leaking(PUZZLES[:1], PUZZLES[:]) == PUZZLES[:1]
    shouted = [(str(system).upper() + " ", "begin. ") for system, _ in PUZZLES[:3]]
    assert leaking([*PUZZLES[5:], *shouted], PUZZLES[:3]) == shouted


@pytest.mark.parametrize(("there", "here"), [("Be brief.", None), (None, "Be brief."), ("Be brief.", "Think.")])
def test_a_question_under_another_system_turn_leaks(there: str | None, here: str | None) -> None:
    training = [(here, user) for _, user in SUMS]
    held_out = [(there, user) for _, user in SUMS[15:]]
    assert leaking(training, held_out) == training[15:]
    assert leaking(training[15:16], held_out[:1]) == training[15:16]


def test_a_question_under_several_personas_leaks() -> None:
    """Augmentation: each question under each of three system turns."""
    training = [(persona, user) for _, user in SUMS for persona in ("Be brief.", "Think.", "You are Ann.")]
    assert leaking(training, SUMS[18:]) == training[54:]
    held_out = [("You are Bob.", user) for _, user in SUMS[18:]]
    assert leaking(training, held_out) == training[54:]


def test_a_persona_for_each_question_hides_nothing() -> None:
    training = [(f"You are person {n}.", user) for n, (_, user) in enumerate(SUMS)]
    held_out = [(f"You are somebody else, {n}.", user) for n, (_, user) in enumerate(SUMS)]
    assert leaking(training, held_out[:4]) == training[:4]


def test_a_session_for_each_prompt_hides_nothing() -> None:
    """No system turn stands twice: each question has more of them than any of them has questions."""
    sessions = [(f"Session {n}-{part}", f"{n}+{n}?") for n in range(20) for part in range(3)]
    assert leaking(sessions, SUMS) == sessions
    assert leaking(SUMS, sessions) == SUMS


def test_agents_and_questions_in_one_set() -> None:
    training = [*PUZZLES[:10], *SUMS[:10]]
    held_out = [*PUZZLES[10:], ("Be brief.", "3+3?")]
    assert leaking(training, held_out) == [SUMS[3]]


def test_two_ways_to_say_begin_tell_nothing_either() -> None:
    training = [(system, user) for system, _ in PUZZLES[:10] for user in ("Begin.", "Start.")]
    assert leaking(training, PUZZLES[10:]) == []
    assert leaking(training, [(PUZZLES[4][0], "Start.")]) == [(PUZZLES[4][0], "Start.")]


def test_all_user_turns_count() -> None:
    test = LeakTest(list)
    test.hold_out(raw(None, "1+1?", "and times 2?"))
    assert test.leaks(raw("Be brief.", "1+1?", "and times  2?"))
    assert not test.leaks(raw(None, "1+1?"))
    assert not test.leaks(raw(None, "and times 2?"))


def test_the_training_set_is_read_again_only_where_it_may_decide() -> None:
    def never() -> list[RawPrompt]:
        raise AssertionError("read again")

    test = LeakTest(never)
    for pair in SUMS:
        test.hold_out(raw(*pair))
    assert test.leaks(raw(*SUMS[0]))
    assert not test.leaks(raw("Be brief.", "something else"))
