"""Scores: exact values in row order, each by its own teacher; a student that is stale or does not fit is refused."""

import math
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from fire_opd.errors import ArtifactError, MismatchError, PreflightError, StaleWeightsError
from fire_opd.head import collate
from fire_opd.head.probes import make_probe_tokens, write_probes
from fire_opd.records import ROLLOUT, SCORE, read_table, write_table
from fire_opd.runtime.tick import no_tick
from fire_opd.scores import Scorer, keep_distribution, score_round
from fire_opd.spec import RunSpec
from tests.conftest import Assets

SEQUENCES = [([1, 10, 11], [12, 13]), ([20] * 5, [6, 7, 8, 9, 10, 1]), ([30, 8], [1]), ([40], [41, 42, 43, 44])]
TEACHERS = ["c", "m", "m", "c"]


def naive(path: Path, sequences: list = SEQUENCES) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Log-prob and entropy of each response token from all 64 logits of a sequence alone."""
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    found = []
    with torch.no_grad():
        for prompt, response in sequences:
            logits = model(torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1, :64]
            logp = logits.log_softmax(-1)
            picked = logp.gather(1, torch.tensor(response, dtype=torch.long)[:, None])[:, 0]
            found.append((picked, -(logp.exp() * logp).sum(-1)))
    return found


def write_rollouts(
    folder: Path, spec: RunSpec, shift: float = 0.0, sequences: list = SEQUENCES, teachers: list = TEACHERS
) -> Path:
    """Rollouts whose engine log-probs are the student's own, moved by `shift`."""
    size = len(sequences)
    own = naive(Path(spec.student.path), [(p, [t % 64 for t in r]) for p, r in sequences])
    table = {
        "round": [1] * size,
        "prompt": [f"p{i}" for i in range(size)],
        "sample": [0] * size,
        "domain": teachers,
        "teacher": teachers,
        "prompt_ids": [prompt for prompt, _ in sequences],
        "response_ids": [response for _, response in sequences],
        "engine_logprobs": [(logprob + shift).tolist() for logprob, _ in own],
        "finish_reason": ["stop"] * size,
        "text": [""] * size,
        "seed": [0] * size,
    }
    folder.mkdir(exist_ok=True)
    write_table(folder / "rollouts.parquet", pa.table(table, schema=ROLLOUT), ROLLOUT)
    return folder


@pytest.fixture
def spec(assets: Assets) -> RunSpec:
    return assets.spec("scoring.token_budget=12")


@pytest.mark.parametrize("tied", [True, False])
def test_values_are_those_of_a_plain_forward(assets: Assets, tmp_path: Path, tied: bool) -> None:
    student = _write_checkpoint(assets.demo.student, tmp_path / "student", seed=5, tied=tied)
    padded = _write_checkpoint(assets.demo.student, tmp_path / "padded", seed=6, tied=True, vocab_size=80)
    spec = assets.spec(
        *("scoring.token_budget=12", "scoring.head_chunk=2"),
        *(f"student.path={student}", f"teachers.m.path={padded}"),
    )
    metrics = score_round(Scorer(spec), spec, write_rollouts(tmp_path / "in", spec), tmp_path, no_tick)
    rows = read_table(tmp_path / "scores.parquet", SCORE).to_pylist()
    assert [row["teacher"] for row in rows] == TEACHERS
    assert [row["prompt"] for row in rows] == ["p0", "p1", "p2", "p3"]
    expected = {name: naive(Path(model.path)) for name, model in spec.teachers.items()}
    expected["student"] = naive(student)
    for i, row in enumerate(rows):
        for kind, name in (("teacher", TEACHERS[i]), ("student", "student")):
            logprob, entropy = expected[name][i]
            assert torch.allclose(torch.tensor(row[f"{kind}_logprobs"]), logprob, rtol=0, atol=1e-5)
            assert torch.allclose(torch.tensor(row[f"{kind}_entropies"]), entropy, rtol=0, atol=1e-5)
    assert metrics["mismatch"] < 1e-5
    for name in ("c", "m"):
        of_teacher = torch.cat([expected[name][i][0] for i in range(4) if TEACHERS[i] == name])
        assert metrics["by_teacher"][name]["teacher_logprob"] == pytest.approx(float(of_teacher.mean()), abs=1e-5)


def test_resident_and_fresh_scorers_write_the_same_bytes(assets: Assets, tmp_path: Path) -> None:
    first, second = (
        _write_checkpoint(assets.demo.student, tmp_path / str(n) / "checkpoint", seed=n, tied=True) for n in (0, 1)
    )
    spec = assets.spec("scoring.token_budget=12", f"student.path={second}")
    rollouts = write_rollouts(tmp_path / "in", spec)
    resident, fresh = Scorer(spec), Scorer(spec)
    resident.load_student(first, None)
    score_round(resident, _loose(spec), rollouts, tmp_path, no_tick)
    resident.load_student(second, first)
    fresh.load_student(second, None)
    for name, scorer in (("resident", resident), ("fresh", fresh)):
        (tmp_path / name).mkdir()
        score_round(scorer, spec, rollouts, tmp_path / name, no_tick)
    assert (tmp_path / "resident/scores.parquet").read_bytes() == (tmp_path / "fresh/scores.parquet").read_bytes()


def test_ticks_count_both_passes(spec: RunSpec, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    rollouts = write_rollouts(tmp_path / "in", spec)
    score_round(Scorer(spec), spec, rollouts, tmp_path, lambda done, total: seen.append((done, total)))
    assert seen[0] == (0, 8)
    assert seen[-1] == (8, 8)
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})


@pytest.mark.parametrize("sequences", [[], [([1, 2], [])], [([1, 2], []), ([3], [4]), ([5, 6, 7], [])]])
def test_empty_responses_are_rows_without_values(spec: RunSpec, tmp_path: Path, sequences: list) -> None:
    rollouts = write_rollouts(tmp_path / "in", spec, sequences=sequences, teachers=["m"] * len(sequences))
    metrics = score_round(Scorer(spec), spec, rollouts, tmp_path, no_tick)
    scores = read_table(tmp_path / "scores.parquet", SCORE)
    lengths = [len(response) for _, response in sequences]
    for name in ("teacher_logprobs", "teacher_entropies", "student_logprobs", "student_entropies"):
        assert [len(row) for row in scores[name].to_pylist()] == lengths
    assert metrics["by_teacher"]["c"]["teacher_logprob"] == 0.0
    assert metrics["mismatch"] < 1e-5


def test_a_token_of_the_padding_is_named(spec: RunSpec, tmp_path: Path) -> None:
    rollouts = write_rollouts(tmp_path / "in", spec, sequences=[([1], [2, 64])], teachers=["m"])
    with pytest.raises(ArtifactError, match=r"token\(s\) \[64\], .* ids below 64"):
        score_round(Scorer(spec), spec, rollouts, tmp_path, no_tick)


def test_a_changed_sequence_leaves_the_others_bit_equal(spec: RunSpec, tmp_path: Path) -> None:
    scorer = Scorer(spec)
    score_round(scorer, spec, write_rollouts(tmp_path / "in", spec), tmp_path, no_tick)
    before = read_table(tmp_path / "scores.parquet", SCORE)
    other = [SEQUENCES[0], ([21] * 5, [16, 17, 18, 19, 20, 1]), *SEQUENCES[2:]]
    score_round(scorer, spec, write_rollouts(tmp_path / "in", spec, sequences=other), tmp_path, no_tick)
    after = read_table(tmp_path / "scores.parquet", SCORE)
    assert before.take([0, 2, 3]).equals(after.take([0, 2, 3]))
    assert not before.take([1]).equals(after.take([1]))


def test_figures_leave_out_what_is_not_finite(spec: RunSpec, tmp_path: Path) -> None:
    scorer, rollouts = Scorer(spec), write_rollouts(tmp_path / "in", spec)
    with torch.no_grad():
        next(iter(scorer.teachers["c"].model.parameters())).fill_(torch.nan)
    metrics = score_round(scorer, spec, rollouts, tmp_path, no_tick)
    teachers = read_table(tmp_path / "scores.parquet", SCORE)["teacher"].to_pylist()
    assert metrics["not_finite"] == teachers.count("c") > 0
    assert math.isfinite(metrics["teacher_logprob"] + metrics["mismatch"])
    with torch.no_grad():
        next(iter(scorer.student.model.parameters())).fill_(torch.nan)
    with pytest.raises(ArtifactError, match="no trajectory of this round has finite scores"):
        score_round(scorer, spec, rollouts, tmp_path / "again", no_tick)


def test_a_mismatch_stops_the_round(spec: RunSpec, tmp_path: Path) -> None:
    rollouts = write_rollouts(tmp_path / "in", spec, shift=0.01)
    with pytest.raises(MismatchError, match=r"differ by 0\.01 nat .*max_mismatch is 0\.001.*stale.*dtype"):
        score_round(Scorer(spec), spec, rollouts, tmp_path, no_tick)
    assert not (tmp_path / "scores.parquet").exists()


def test_an_unknown_teacher_is_named(spec: RunSpec, tmp_path: Path) -> None:
    scorer = Scorer(spec)
    del scorer.teachers["m"]
    with pytest.raises(PreflightError, match=r"no teacher \['m'\]"):
        score_round(scorer, spec, write_rollouts(tmp_path / "in", spec), tmp_path, no_tick)


@pytest.mark.parametrize("tied", [True, False])
def test_the_student_takes_new_weights_and_stale_ones_are_caught(
    assets: Assets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tied: bool
) -> None:
    for n in (0, 1):
        _write_checkpoint(assets.demo.student, tmp_path / str(n) / "checkpoint", seed=n, tied=tied)
    spec = assets.spec(f"student.path={tmp_path}/0/checkpoint")
    scorer = Scorer(spec)
    old, new = (tmp_path / str(n) / "checkpoint" for n in (0, 1))
    scorer.load_student(old, None)
    monkeypatch.setenv("FIRE_OPD_FAILPOINT", f"scorer.reload.1={tmp_path / 'marker'}")
    with pytest.raises(StaleWeightsError):
        scorer.load_student(new, old)
    scorer.load_student(new, old)  # the failpoint acts once
    fresh = AutoModelForCausalLM.from_pretrained(new, dtype=torch.float32)
    tokens = torch.tensor([SEQUENCES[1][0] + SEQUENCES[1][1]])
    with torch.no_grad():
        expected = fresh(tokens).logits[0, 4:-1].log_softmax(-1).gather(1, tokens[0, 5:, None])[:, 0]
        assert torch.allclose(scorer.student(collate([SEQUENCES[1]]))[0], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("harm", "named"),
    [
        ("layer", r"does not fit the student: \d+ tensor\(s\) missing: model\.layers\.2"),
        ("head", r"1 tensor\(s\) missing: lm_head\.weight"),
        ("more", r"1 tensor\(s\) unexpected: model\.extra"),
        ("shape", r"model\.norm\.weight is \[95\], not \[96\]"),
    ],
)
def test_a_checkpoint_of_another_student_is_refused(assets: Assets, tmp_path: Path, harm: str, named: str) -> None:
    source = _write_checkpoint(assets.demo.student, tmp_path / "own", seed=0, tied=False)
    scorer = Scorer(assets.spec(f"student.path={source}"))
    before = {name: value.clone() for name, value in scorer.student.model.state_dict().items()}
    state = {name: value + 1 for name, value in before.items()}
    match harm:
        case "layer":
            state = {name: value for name, value in state.items() if "layers.2" not in name}
        case "head":
            del state["lm_head.weight"]
        case "more":
            state["model.extra"] = torch.zeros(1)
        case "shape":
            state["model.norm.weight"] = state["model.norm.weight"][:95].clone()
    (tmp_path / "other").mkdir()
    shutil.copyfile(source / "config.json", tmp_path / "other" / "config.json")
    save_file(state, tmp_path / "other" / "model.safetensors", {"format": "pt"})
    with pytest.raises(ArtifactError, match=named):
        scorer.load_student(tmp_path / "other", None)
    assert all(torch.equal(value, before[name]) for name, value in scorer.student.model.state_dict().items())


def _loose(spec: RunSpec) -> RunSpec:
    return spec.model_copy(update={"scoring": spec.scoring.model_copy(update={"max_mismatch": 100.0})})


def _write_checkpoint(source: Path, out: Path, seed: int, tied: bool, **config: int) -> Path:
    """A model of the student's shape with other weights, and the probes that training would write."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(source, tie_word_embeddings=tied, **config))
    model.save_pretrained(out)
    AutoTokenizer.from_pretrained(source).save_pretrained(out)
    probes, values = make_probe_tokens(64), []
    with torch.no_grad():
        for row in probes:
            logp = model(torch.tensor([row])).logits[0, :-1, :64].log_softmax(-1)
            values.append(logp.gather(1, torch.tensor(row[1:])[:, None])[:, 0].tolist())
    write_probes(out, probes, values)
    return out


def test_columns_that_some_methods_ask_for(assets: Assets, tmp_path: Path) -> None:
    """TIP's divergence and ExOPD's reference, against plain forwards."""
    spec = assets.spec("method.name=tip")
    scorer, rollouts, kept = Scorer(spec), write_rollouts(tmp_path / "in", spec), tmp_path / "kept"
    kept.mkdir()
    keep_distribution(scorer, spec, rollouts, kept, no_tick)
    score_round(scorer, spec, rollouts, tmp_path, no_tick, kept, spec.method.score_columns)
    found = read_table(tmp_path / "scores.parquet", SCORE)
    teachers = found["teacher"].to_pylist()
    for row, (prompt, response) in enumerate(SEQUENCES):
        tokens = torch.tensor([prompt + response])
        with torch.no_grad():
            logp, logq = (
                policy.model(tokens).logits[0, len(prompt) - 1 : -1, : scorer.vocab].log_softmax(-1)
                for policy in (scorer.student, scorer.teachers[teachers[row]])
            )
        expected = (logp.exp() * (logp - logq)).sum(-1)
        assert torch.allclose(torch.tensor(found["divergences"][row].as_py()), expected, atol=1e-5)
    plain = score_round(scorer, spec, rollouts, tmp_path, no_tick)
    again = read_table(tmp_path / "scores.parquet", SCORE)
    for name in ("teacher_logprobs", "teacher_entropies", "student_logprobs", "student_entropies"):
        assert again[name].equals(found[name])
    assert again["divergences"].null_count == len(again)
    assert plain["not_finite"] == 0
    spec = assets.spec("method.name=exopd")
    score_round(Scorer(spec), spec, rollouts, tmp_path, no_tick, None, spec.method.score_columns)
    first = read_table(tmp_path / "scores.parquet", SCORE)
    assert first["reference_logprobs"].equals(first["student_logprobs"])  # the student is the first one here


def test_with_an_adapter_the_student_itself_is_teacher_and_reference(assets: Assets, tmp_path: Path) -> None:
    """Both are the student with its adapter off, whatever it has learnt, and no second copy."""
    student = assets.spec().student
    spec = assets.spec(
        *("student.adapter.rank=4", "method.name=exopd", "filter.percentile=0", "weights.alpha=0", "weights.beta=0"),
        f"teachers.m.path={student.path}",
    )
    scorer = Scorer(spec)
    assert scorer.reference is scorer.teachers["m"]
    assert scorer.reference.model is scorer.student.model
    assert scorer.teachers["c"].model is not scorer.student.model
    with torch.no_grad():
        for name, parameter in scorer.student.named_parameters():
            if "lora_B" in name:
                parameter += 0.3
    rollouts = write_rollouts(tmp_path / "rollouts", spec)
    loose = spec.model_copy(update={"scoring": spec.scoring.model_copy(update={"max_mismatch": 100.0})})
    score_round(scorer, loose, rollouts, tmp_path, no_tick, None, spec.score_columns)
    table = read_table(tmp_path / "scores.parquet", SCORE).to_pylist()
    for row, (logprob, _) in zip(table, naive(Path(student.path)), strict=True):
        torch.testing.assert_close(torch.tensor(row["reference_logprobs"]), logprob, rtol=0, atol=1e-4)
        if row["teacher"] == "m":
            torch.testing.assert_close(torch.tensor(row["teacher_logprobs"]), logprob, rtol=0, atol=1e-4)
        assert (torch.tensor(row["student_logprobs"]) - logprob).abs().max() > 0.01


def test_every_teacher_scores_every_trajectory_for_signed_sums(assets: Assets, tmp_path: Path) -> None:
    spec = assets.spec("method={name: signed, models: {m: 1, c: -1, student: 1}}")
    rollouts = write_rollouts(tmp_path / "in", spec)
    seen: list[tuple[int, int]] = []
    options = {"more": spec.score_columns, "correct": [True, False, True, False]}
    score_round(Scorer(spec), spec, rollouts, tmp_path, lambda *at: seen.append(at), **options)
    assert seen[-1] == (16, 16)  # own teacher, student, first student, and the other teacher
    found = read_table(tmp_path / "scores.parquet", SCORE)
    assert found["correct"].to_pylist() == options["correct"]
    rows = [dict(row) for row in found["logprobs_by_teacher"].to_pylist()]
    plain = {name: naive(Path(teacher.path)) for name, teacher in spec.teachers.items()}
    for place, row in enumerate(rows):
        assert row[TEACHERS[place]] == found["teacher_logprobs"][place].as_py()
        for name, values in plain.items():
            assert torch.allclose(torch.tensor(row[name]), values[place][0], atol=1e-5)
