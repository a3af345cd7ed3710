"""Scores: exact values in row order, each by its own teacher; tokenizers that differ are named."""

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from fire_opd.errors import ArtifactError, MismatchError, PreflightError, StaleWeightsError
from fire_opd.head import collate
from fire_opd.head.probes import make_probe_tokens, write_probes
from fire_opd.records import ROLLOUT, SCORE, read_table, write_table
from fire_opd.runtime.tick import no_tick
from fire_opd.scores import Scorer, preflight, score_round
from fire_opd.spec import RunSpec
from tests.conftest import Assets

SEQUENCES = [([1, 10, 11], [12, 13]), ([20] * 5, [6, 7, 8, 9, 10, 1]), ([30, 8], [1]), ([40], [41, 42, 43, 44])]
TEACHERS = ["c", "m", "m", "c"]


def naive(path: Path) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Log-prob and entropy of each response token from all logits of a sequence alone."""
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    found = []
    for prompt, response in SEQUENCES:
        logp = model(torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        found.append((logp.gather(1, torch.tensor(response)[:, None])[:, 0], -(logp.exp() * logp).sum(-1)))
    return found


def write_rollouts(folder: Path, spec: RunSpec, shift: float = 0.0, sequences: list = SEQUENCES) -> Path:
    """Rollouts whose engine log-probs are the student's own, moved by `shift`."""
    size = len(sequences)
    with torch.no_grad():
        own = [logprob + shift for logprob, _ in naive(Path(spec.student.path))]
    table = {
        "round": [1] * size,
        "prompt": [f"p{i}" for i in range(size)],
        "sample": [0] * size,
        "domain": TEACHERS,
        "teacher": TEACHERS,
        "prompt_ids": [prompt for prompt, _ in sequences],
        "response_ids": [response for _, response in sequences],
        "engine_logprobs": [row.tolist() for row in own],
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


def test_values_are_those_of_a_plain_forward(spec: RunSpec, tmp_path: Path) -> None:
    metrics = score_round(Scorer(spec), spec, write_rollouts(tmp_path / "in", spec), tmp_path, no_tick)
    rows = read_table(tmp_path / "scores.parquet", SCORE).to_pylist()
    assert [row["teacher"] for row in rows] == TEACHERS
    with torch.no_grad():
        expected = {name: naive(Path(model.path)) for name, model in {**spec.teachers, "student": spec.student}.items()}
    for i, row in enumerate(rows):
        for kind, name in (("teacher", TEACHERS[i]), ("student", "student")):
            logprob, entropy = expected[name][i]
            assert torch.allclose(torch.tensor(row[f"{kind}_logprobs"]), logprob, atol=1e-5)
            assert torch.allclose(torch.tensor(row[f"{kind}_entropies"]), entropy, atol=1e-5)
    assert metrics["mismatch"] < 1e-5


def test_a_changed_sequence_leaves_the_others_bit_equal(spec: RunSpec, tmp_path: Path) -> None:
    scorer = Scorer(spec)
    score_round(scorer, spec, write_rollouts(tmp_path / "in", spec), tmp_path, no_tick)
    before = read_table(tmp_path / "scores.parquet", SCORE)
    other = [SEQUENCES[0], ([21] * 5, [16, 17, 18, 19, 20, 1]), *SEQUENCES[2:]]
    loose = spec.model_copy(update={"scoring": spec.scoring.model_copy(update={"max_mismatch": 100.0})})
    score_round(scorer, loose, write_rollouts(tmp_path / "in", spec, sequences=other), tmp_path, no_tick)
    after = read_table(tmp_path / "scores.parquet", SCORE)
    assert before.take([0, 2, 3]).equals(after.take([0, 2, 3]))
    assert not before.take([1]).equals(after.take([1]))


def test_a_mismatch_stops_the_round(spec: RunSpec, tmp_path: Path) -> None:
    rollouts = write_rollouts(tmp_path / "in", spec, shift=0.01)
    with pytest.raises(MismatchError, match=r"differ by 0\.01 nat .*max_mismatch is 0\.001"):
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
        assert torch.allclose(scorer.student(collate([SEQUENCES[1]]))[0], expected, atol=1e-5)


def test_a_checkpoint_of_another_student_is_refused(assets: Assets, tmp_path: Path) -> None:
    scorer = Scorer(assets.spec())
    weights = AutoModelForCausalLM.from_pretrained(assets.demo.student, dtype=torch.float32)
    state = {name: value for name, value in weights.state_dict().items() if "layers.2" not in name}
    weights.save_pretrained(tmp_path, state_dict=state)
    with pytest.raises(ArtifactError, match=r"missing \['model\.layers\.2"):
        scorer.load_student(tmp_path, None)


def _write_checkpoint(source: Path, out: Path, seed: int, tied: bool) -> None:
    """A model of the student's shape with other weights, and the probes that training would write."""
    from transformers import AutoConfig

    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(source, tie_word_embeddings=tied))
    model.save_pretrained(out)
    AutoTokenizer.from_pretrained(source).save_pretrained(out)
    probes, values = make_probe_tokens(64), []
    with torch.no_grad():
        for row in probes:
            logp = model(torch.tensor([row])).logits[0, :-1].log_softmax(-1)
            values.append(logp.gather(1, torch.tensor(row[1:])[:, None])[:, 0].tolist())
    write_probes(out, probes, values)


def test_preflight_of_models_that_fit(assets: Assets) -> None:
    assert preflight(assets.spec()) == {"vocab": 64, "same_template": {"m": True, "c": True}}


@pytest.mark.parametrize(
    ("harm", "named"),
    [
        ("token", r"teacher m differ in 2 token\(s\).*'z': 41 / none"),
        ("swap", r"teacher m differ in 2 token\(s\).*'0': 6 / 7"),
        ("special", r"differ in 2 token\(s\).*'<eos>': 1 / none"),
        ("end", r"end a response with different tokens: \[1\] / \[0\]"),
        ("no end", "no eos_token_id"),
        ("length", r"teacher m holds 32 positions; .* = 48"),
    ],
)
def test_preflight_names_what_differs(assets: Assets, tmp_path: Path, harm: str, named: str) -> None:
    teacher = tmp_path / "teacher"
    shutil.copytree(assets.demo.teachers["m"], teacher)
    tokenizer = (teacher / "tokenizer.json").read_text()
    config = json.loads((teacher / "config.json").read_text())
    generation = json.loads((teacher / "generation_config.json").read_text())
    match harm:
        case "token":
            tokenizer = tokenizer.replace('"z":', '"Z":')
        case "swap":
            tokenizer = tokenizer.replace('"0": 6', '"0": 7').replace('"1": 7,', '"1": 6,')
        case "special":
            tokenizer = tokenizer.replace("<eos>", "<end>")
            settings = (teacher / "tokenizer_config.json").read_text().replace("<eos>", "<end>")
            (teacher / "tokenizer_config.json").write_text(settings)
        case "end":
            generation["eos_token_id"] = 0
        case "no end":
            del generation["eos_token_id"]
            del config["eos_token_id"]
        case "length":
            config["max_position_embeddings"] = 32
    (teacher / "tokenizer.json").write_text(tokenizer)
    (teacher / "config.json").write_text(json.dumps(config))
    (teacher / "generation_config.json").write_text(json.dumps(generation))
    with pytest.raises(PreflightError, match=named):
        preflight(assets.spec(f"teachers.m.path={teacher}"))
