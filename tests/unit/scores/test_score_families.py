"""Teachers and students of many families: exact scores, experts handed over, and a family that is not known refused."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from transformers import AutoModelForCausalLM

from fire_opd.errors import SpecError
from fire_opd.head import LogitTransform, collate
from fire_opd.head import policy as policy_module
from fire_opd.head.probes import make_probe_tokens, write_probes
from fire_opd.records import ROLLOUT, SCORE, read_table, write_table
from fire_opd.runtime.tick import no_tick
from fire_opd.scores import Scorer, score_round
from tests.conftest import Assets
from tests.families import FAMILIES, own_values, save_family

SEQUENCES = [([1, 10, 11], [12, 13]), ([20] * 5, [6, 7, 8, 9, 10, 1]), ([40], list(range(20, 60)))]
Values = dict[str, tuple[torch.Tensor, torch.Tensor]]


def own(path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """With the plain attention, which leaves nothing out."""
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="eager").eval()
    with torch.no_grad():
        return own_values(model, SEQUENCES)


@pytest.fixture(scope="module")
def scores(assets: Assets, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Values, Values]]:
    """By family as a teacher: found and expected values. One scorer holds all of them."""
    root = tmp_path_factory.mktemp("families")
    expected, overrides = {}, ["scoring.max_mismatch=100", "scoring.token_budget=100", "scoring.head_chunk=7"]
    for name in FAMILIES:
        expected[name] = own(save_family(name, root / name))
        overrides += [f"teachers.{name}={{path: {root / name}, dtype: float32, domains: [{name}]}}"]
    spec = assets.spec(*overrides)
    names = [name for name in FAMILIES for _ in SEQUENCES]
    size, sequences = len(names), SEQUENCES * len(FAMILIES)
    table = {
        **{"round": [1] * size, "prompt": [str(i) for i in range(size)], "sample": [0] * size, "seed": [0] * size},
        **{"domain": names, "teacher": names, "finish_reason": ["stop"] * size, "text": [""] * size},
        "prompt_ids": [prompt for prompt, _ in sequences],
        "response_ids": [response for _, response in sequences],
        "engine_logprobs": [[0.0] * len(response) for _, response in sequences],
    }
    write_table(root / "rollouts.parquet", pa.table(table, schema=ROLLOUT), ROLLOUT)
    score_round(Scorer(spec), spec, root, root, no_tick)
    rows = read_table(root / "scores.parquet", SCORE).to_pylist()
    found = {
        name: tuple(
            torch.tensor([v for row in rows if row["teacher"] == name for v in row[kind]])
            for kind in ("teacher_logprobs", "teacher_entropies")
        )
        for name in FAMILIES
    }
    return {name: (found[name], expected[name]) for name in FAMILIES}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_teachers_scores_are_those_of_its_own_logits(
    scores: dict[str, tuple[Values, Values]], name: str, record_property: Callable[[str, object], None]
) -> None:
    errors = [float((found - expected).abs().max()) for found, expected in zip(*scores[name], strict=True)]
    assert max(errors) <= 1e-5
    record_property(f"{name}/score", f"{max(errors):.0e} nat")


@pytest.mark.parametrize("name", ["qwen3_moe", "gpt_oss", "granitemoehybrid", "mixtral"])
def test_a_student_with_experts_takes_new_weights(assets: Assets, tmp_path: Path, name: str) -> None:
    """Experts are stored one by one and held in one tensor."""
    first, second = (save_family(name, tmp_path / str(n) / "checkpoint") for n in (0, 1))
    moved = AutoModelForCausalLM.from_pretrained(second, dtype=torch.float32, attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in moved.parameters():
            parameter *= 1.1
    moved.save_pretrained(second)
    for path in (first, second):
        model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="eager").eval()
        probes = make_probe_tokens(64)
        with torch.no_grad():
            write_probes(path, probes, [own_values(model, [(row[:1], row[1:])])[0].tolist() for row in probes])
    scorer = Scorer(assets.spec(f"student.path={first}"))
    scorer.load_student(second, None)
    with torch.no_grad():
        found = scorer.student(collate(SEQUENCES))[0]
    assert float((found - own(second)[0]).abs().max()) <= 1e-5
    assert float((found - own(first)[0]).abs().max()) > 0.1


@pytest.mark.parametrize("role", ["student", "teachers.m"])
def test_a_model_whose_logits_are_not_known_is_refused(
    assets: Assets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, role: str
) -> None:
    path = save_family("granite", tmp_path / "granite")
    monkeypatch.setattr(policy_module, "logit_transform", lambda config: LogitTransform())
    with pytest.raises(SpecError, match=rf"{path} \(granite\): .* differ by .* its own logits"):
        Scorer(assets.spec(f"{role}.path={path}"))
