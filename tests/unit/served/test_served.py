"""Teachers behind servers: tried again, refused in one line, and never a number that the server did not give."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fire_opd.checks import check_models, check_start
from fire_opd.errors import FireOpdError, PreflightError, SpecError, TeacherError, TeacherUnreachable
from fire_opd.runtime.tick import no_tick
from fire_opd.scores import Scorer, keep_distribution
from fire_opd.served import ServedTeacher, check_servers, prove
from fire_opd.spec import RunSpec, spec_values
from fire_opd.stages import BASELINE, SCORE, SELECT, Job
from fire_opd.storage import Run
from tests.conftest import Assets
from tests.unit.scores.test_scores import write_rollouts
from tests.unit.served.standin import Answer, Fault, right, standing_in

SEQUENCES = [([1, 10, 11], [12, 13]), ([20], [6, 7, 8])]
UNIFORM = -math.log(64)


def served(assets: Assets, url: str, *overrides: str) -> RunSpec:
    """Teacher m behind a server, its answers awaited for two seconds."""
    server = [f"placement.servers.m.url={url}", "placement.servers.m.timeout=2"]
    return assets.spec("method.name=opd", *server, *overrides)


def teacher_of(assets: Assets, url: str, *overrides: str) -> ServedTeacher:
    return ServedTeacher(served(assets, url, *overrides), "m", 64)


def change(number: int, edit: Any) -> Fault:
    """The request of this number, from 1 (0: all of them), gets the right answer with an edit."""

    def fault(state: dict[str, Any], body: Any) -> Answer | None:
        answer = right(body)
        edit(answer["choices"])
        return (200, answer) if number in (0, state["asked"]) else None

    return fault


def shift(by: float) -> Any:
    """An edit that moves every log-prob."""

    def edit(choices: list[dict[str, Any]]) -> None:
        for choice in choices:
            for place in choice["prompt_logprobs"][1:]:
                for entry in place.values():
                    entry["logprob"] += by

    return edit


@pytest.mark.parametrize("method", ["opd", "fire", "fire_kl"])
def test_log_probs_and_entropies_are_those_of_the_answer(assets: Assets, method: str) -> None:
    with standing_in() as (url, _):
        teacher = teacher_of(assets, url, f"method.name={method}")
        assert teacher.whole == (method != "opd")
        for (_, response), found in zip(SEQUENCES, teacher.score(SEQUENCES, [0, 1]), strict=True):
            np.testing.assert_allclose(found.logprobs_T, [UNIFORM] * len(response), rtol=1e-6)
            if teacher.whole:
                np.testing.assert_allclose(found.entropies_T, [-UNIFORM] * len(response), rtol=1e-6)
            else:
                assert np.isnan(found.entropies_T).all()


def test_rows_beyond_the_shared_ids_are_normalised_away(assets: Assets) -> None:
    """The server's own normalisation counts them, so the whole distribution is asked for whatever the method."""
    with standing_in() as (url, _):
        teacher = ServedTeacher(served(assets, url), "m", 48)
        assert teacher.whole
        (found,) = teacher.score([([1], [2, 3])], [0])
    np.testing.assert_allclose(found.logprobs_T, [-math.log(48)] * 2, rtol=1e-6)


def test_what_vllm_writes_for_minus_infinity_is_minus_infinity(assets: Assets) -> None:
    with standing_in(
        change(0, lambda choices: choices[0]["prompt_logprobs"][1].update({"2": {"logprob": -9999.0}}))
    ) as (
        url,
        _,
    ):
        (found,) = teacher_of(assets, url).score([([1], [2, 3])], [0])
    assert found.logprobs_T[0] == -np.inf


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_or_broken_server_is_asked_again(assets: Assets, status: int) -> None:
    with standing_in(lambda state, body: (status, {}) if state["asked"] < 3 else None) as (url, state):
        assert len(teacher_of(assets, url).score(SEQUENCES, [0, 1])) == 2
        assert state["asked"] == 3


def test_a_server_that_stays_broken_is_named_at_its_deadline(assets: Assets) -> None:
    with standing_in(lambda state, body: (500, {"error": {"message": "out of memory"}})) as (url, state):
        with pytest.raises(
            TeacherUnreachable, match=r"teacher m .*within 2 s.*status 500: out of memory.*same command"
        ):
            teacher_of(assets, url).score(SEQUENCES, [0, 1])
        assert 3 <= state["asked"] <= 8
    with pytest.raises(TeacherUnreachable, match=r"teacher m .*ConnectError"):
        teacher_of(assets, url).score(SEQUENCES, [0, 1])


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (
            lambda s, b: (400, {"error": {"message": "max logprobs is 20"}}),
            r"refused with status 400: max logprobs is 20",
        ),
        (lambda s, b: (401, b"who are you"), r"status 401: who are you; see its URL, its key"),
        (lambda s, b: (307, b""), r"status 307"),  # not followed: the key would go elsewhere
        (lambda s, b: (200, b"<html>"), r"expected JSON, found '<html>'"),
        (lambda s, b: (200, {"choices": []}), r"expected 2 choices.*found 0"),
        (
            change(0, lambda choices: choices[1].update(prompt_logprobs=None)),
            r"prompt_logprobs of 4 tokens, found none",
        ),
        (change(0, lambda choices: choices[1]["prompt_logprobs"].pop()), r"of 4 tokens, found 3"),
        (
            change(0, lambda choices: choices[1]["prompt_logprobs"][2].clear()),
            r"no log-prob for token id 7 at row 6, response token 1 \(found None\)",
        ),
        (
            change(0, lambda choices: choices[0]["prompt_logprobs"][3]["12"].update(logprob=None)),
            r"token id 12 at row 5, response token 0",
        ),
        (change(0, shift(math.nan)), r"token id 12 at row 5, response token 0 \(found nan\)"),
    ],
)
def test_an_answer_without_numbers_is_one_line(assets: Assets, fault: Fault, words: str) -> None:
    with standing_in(fault) as (url, state):
        with pytest.raises(TeacherError, match=f"teacher m .*{words}") as raised:
            teacher_of(assets, url).score(SEQUENCES, [5, 6])
        assert not isinstance(raised.value, TeacherUnreachable)
        assert state["asked"] == 1


def test_the_key_comes_from_the_environment(assets: Assets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEACHER_KEY", raising=False)
    with standing_in() as (url, state):
        with pytest.raises(SpecError, match=r"servers\.m\.key_variable: TEACHER_KEY is not set"):
            teacher_of(assets, url, "placement.servers.m.key_variable=TEACHER_KEY")
        monkeypatch.setenv("TEACHER_KEY", "of-the-tests")
        teacher_of(assets, url, "placement.servers.m.key_variable=TEACHER_KEY").score(SEQUENCES, [0, 1])
        assert state["keys"] == ["Bearer of-the-tests"]


def test_all_servers_that_cannot_be_used_are_named_before_the_start(assets: Assets) -> None:
    with standing_in(change(3, shift(0.01))) as (url, _), standing_in() as (other, _):
        spec = served(assets, url, f"placement.servers.c={{url: {other}, served_name: small, timeout: 2}}")
        with pytest.raises(TeacherError) as raised:
            check_servers(spec, 64)
    replica, name = str(raised.value).splitlines()
    assert "teacher m" in replica
    assert "two answers to the same tokens differ by 0.01 nat" in replica
    assert "teacher c" in name
    assert "serves big; name the teacher's in `served_name` (found: small)" in name
    with standing_in() as (url, _):
        assert check_servers(served(assets, url), 64) == [
            f"teacher m ({url}): big answers, asked for the sampled tokens"
        ]
        with pytest.raises(TeacherError, match=r"takes 4096 tokens; .*5017"):
            check_servers(served(assets, url, "sampling.max_tokens=5000", "prompts.max_tokens=16"), 64)


@pytest.mark.parametrize("method", ["opd", "fire"])
def test_numbers_that_are_no_log_probs_are_found(assets: Assets, method: str) -> None:
    """A server with --logprobs-mode raw_logits; where all tokens are asked for, the sum tells whatever they are."""
    by = 5.0 if method == "opd" else -0.5
    with standing_in(change(0, shift(by))) as (url, _), pytest.raises(TeacherError, match=r"sum up to .*logprobs-mode"):
        check_servers(served(assets, url, f"method.name={method}"), 64)


def test_a_server_must_say_what_it_said_first(assets: Assets, tmp_path: Path) -> None:
    """Where its weights are not on this machine; other files of the teacher begin anew."""
    kept = tmp_path / "cache" / "served-m.json"
    with standing_in() as (url, _):
        prove(teacher_of(assets, url), "float32", kept, "digest", None)
    assert json.loads(kept.read_text())["exact"] is False
    with standing_in(change(0, shift(-0.01))) as (url, _):
        with pytest.raises(TeacherError, match=r"teacher m .*what it said when the run began .*differ by 0\.01 nat"):
            prove(teacher_of(assets, url), "float32", kept, "digest", None)
        prove(teacher_of(assets, url), "float32", kept, "other files", None)


def test_a_server_must_say_what_the_weights_say(assets: Assets, tmp_path: Path) -> None:
    with standing_in() as (url, _):
        teacher, kept = teacher_of(assets, url), tmp_path / "served-m.json"
        prove(teacher, "float32", kept, "digest", lambda rows: [[UNIFORM] * (len(row) - 1) for row in rows])
        with pytest.raises(TeacherError, match=r"weights in the teacher's path differ by 4\.\d+ nat a token"):
            prove(teacher, "float32", kept, "new", lambda rows: [[0.0] * (len(row) - 1) for row in rows])


def test_what_a_server_cannot_give_exactly_is_refused(assets: Assets, tmp_path: Path) -> None:
    large = tmp_path / "large"
    shutil.copytree(assets.demo.teachers["m"], large)
    config = json.loads((large / "config.json").read_text())
    (large / "config.json").write_text(json.dumps({**config, "vocab_size": 151936}))
    path = f"teachers.m.path={large}"
    for method in ("fire", "fire_kl", "eopd"):
        with pytest.raises(PreflightError, match=rf"servers\.m: method {method} needs .*151936 numbers.*method opd"):
            teacher_of(assets, "http://127.0.0.1:1", path, f"method.name={method}")
    with pytest.raises(PreflightError, match=r"151936 rows and 64 ids count.*resize_token_embeddings\(64\)"):
        teacher_of(assets, "http://127.0.0.1:1", path)
    spec = served(assets, "http://127.0.0.1:1", path, "method.name=fire", "weights.alpha=0")
    assert not ServedTeacher(spec, "m", 151936).whole


def test_weights_may_be_on_the_server_alone(assets: Assets, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(assets.demo.teachers["m"], bare, ignore=shutil.ignore_patterns("*.safetensors"))
    path = f"teachers.m.path={bare}"
    (note,) = check_models(served(assets, "http://127.0.0.1:1", path))
    assert note.startswith(f"teachers.m.path {bare}: its weights are on its server alone")
    with pytest.raises(FireOpdError, match="has no weights"):
        check_models(assets.spec(path))


def test_a_dry_run_asks_the_servers(assets: Assets) -> None:
    with standing_in() as (url, _):
        assert f"teacher m ({url}): big answers, asked for the sampled tokens" in check_start(served(assets, url))
    with pytest.raises(TeacherUnreachable, match="teacher m"):
        check_start(served(assets, url))


def test_the_address_decides_nothing_and_the_question_does(assets: Assets) -> None:
    here, there, other = (
        spec_values(spec, SCORE.params)
        for spec in (assets.spec("method.name=opd"), served(assets, "http://a"), served(assets, "http://b"))
    )
    assert there == other
    assert (here.pop("served"), there.pop("served")) == (None, {"m": "sampled"})
    assert here == there


def test_results_of_weights_that_nobody_here_knows_are_never_taken_from_another_run(
    assets: Assets, tmp_path: Path
) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(assets.demo.teachers["m"], bare, ignore=shutil.ignore_patterns("*.safetensors"))
    for spec, known in (
        (served(assets, "http://a", f"teachers.m.path={bare}"), False),
        (served(assets, "http://a"), True),
    ):
        run = Run.create(tmp_path / str(known), spec)
        assert Job(run, SCORE, 1).identified == known
        assert Job(run, BASELINE, teacher="m").identified == known
        assert Job(run, BASELINE, teacher="c").identified
        assert Job(run, SELECT, 1).identified


def test_a_distribution_that_was_not_asked_for_is_not_kept(assets: Assets, tmp_path: Path) -> None:
    spec = served(assets, "http://127.0.0.1:1")
    rollouts = write_rollouts(tmp_path / "in", spec)
    with pytest.raises(PreflightError, match=r"teacher m is behind a server .*sampled tokens only, by method opd"):
        keep_distribution(Scorer(spec), spec, rollouts, tmp_path, no_tick)
