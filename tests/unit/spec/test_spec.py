"""The spec: defaults of the paper, contradictions refused with the field's name, overrides."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from fire_opd.errors import SpecError
from fire_opd.spec import check_models, dump_spec, load_spec, spec_values
from fire_opd.spec.checks import CPU_HEAD_SIZES

MINIMAL = {
    "student": {"path": "models/student"},
    "teachers": {"math": {"path": "models/teacher"}},
    "prompts": {"path": "train.jsonl"},
    "evaluation": {"path": "test.jsonl"},
}


@pytest.fixture
def spec_file(tmp_path: Path) -> Path:
    file = tmp_path / "spec.yaml"
    file.write_text(yaml.safe_dump(MINIMAL))
    return file


def test_defaults_are_the_papers_recipe(spec_file: Path) -> None:
    spec = load_spec(spec_file)
    assert (spec.rounds.rollouts, spec.rounds.updates, spec.rounds.count) == (1024, 1, 165)
    assert (spec.filter.percentile, spec.filter.scope) == (20, "batch")
    assert (spec.weights.alpha, spec.weights.beta) == (1, 1)
    assert (spec.loss.clip, spec.loss.aggregation) == (0.2, "seq-mean-token-mean")
    assert (spec.train.lr, spec.train.betas, spec.train.weight_decay, spec.train.grad_clip) == (
        1e-6,
        (0.9, 0.999),
        0.01,
        1,
    )
    assert (spec.sampling.n, spec.sampling.temperature, spec.sampling.max_tokens) == (1, 1, 16384)
    assert spec.total_updates == 165


def test_the_resolved_spec_reads_back_equal(spec_file: Path, tmp_path: Path) -> None:
    spec = load_spec(
        spec_file, ["train.lr=2e-6", "filter.percentile=10", "teachers.code={path: models/code, domains: [code]}"]
    )
    assert spec.train.lr == 2e-6
    (tmp_path / "resolved.yaml").write_text(dump_spec(spec))
    assert load_spec(tmp_path / "resolved.yaml") == spec


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["filter.percentile=100"], "filter.percentile"),
        (["train.zero=4"], "train.zero"),
        (["sampling.top_p=0.9", "loss.tis_cap=5"], "sampling.top_p"),
        (["rounds.rollouts=4"], "filter.percentile = 20 over a scope of 4"),
        (["filter.scope=micro_batch", "filter.micro_batch=1"], "filter.percentile = 20 over a scope of 1"),
        (["sampling.temperature=0.7"], "sampling.temperature"),
        (["filter.scope=micro_batch"], "filter.micro_batch"),
        (["weights.micro_batch=4"], "weights.micro_batch"),
        (["sampling.n=3"], "sampling.n"),
        (["rounds.updates=2000"], "rounds.updates"),
        (["train.warmup_updates=166"], "train.warmup_updates"),
        (["train.learning_rate=1"], "train.learning_rate"),
        (["teachers.other={path: x}"], "domains"),
        (["teachers.math.domains=[a]", "teachers.other={path: x, domains: [a]}"], "'a'"),
        (["student.trust_remote_code=true"], "revision"),
        (["placement.device=cpu", "placement.scorer.mode=sleep"], "placement.scorer.mode"),
        (["placement.trainer.mode=sleep", "train.zero=0", "student.dtype=float32"], "train.zero"),
        (["placement.trainer.mode=sleep", "train.zero=3"], "train.zero"),
        (["rounds=5"], "rounds"),
        (["nonsense"], "field=value"),
        (["train.lr.x=1"], "train"),
    ],
)
def test_a_contradiction_is_refused_by_name(spec_file: Path, overrides: list[str], named: str) -> None:
    with pytest.raises(SpecError) as error:
        load_spec(spec_file, overrides) if overrides != ["train.lr.x=1"] else load_spec(
            spec_file, ["train.lr=1", *overrides]
        )
    assert named in str(error.value)


def test_values_by_path(spec_file: Path) -> None:
    values = spec_values(load_spec(spec_file), ["filter", "teachers.*.domains", "total_updates", "train.betas"])
    assert values == {
        "filter": {"percentile": 20, "scope": "batch", "micro_batch": None},
        "teachers.*.domains": {"math": []},
        "total_updates": 165,
        "train.betas": [0.9, 0.999],
    }


def test_a_head_size_that_the_cpu_kernels_refuse(spec_file: Path, tmp_path: Path) -> None:
    for name in ("student", "teacher"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").touch()
        (tmp_path / name / "config.json").write_text(json.dumps({"head_dim": 24 if name == "teacher" else 32}))
    paths = [f"student.path={tmp_path}/student", f"teachers.math.path={tmp_path}/teacher"]
    check_models(load_spec(spec_file, paths))
    with pytest.raises(SpecError, match=r"teachers\.math\.path .*head size 24"):
        check_models(load_spec(spec_file, [*paths, "placement.device=cpu"]))


def test_a_hub_id_needs_a_revision(spec_file: Path) -> None:
    with pytest.raises(SpecError, match=r"student\.revision: hub id Qwen/Qwen3-1.7B"):
        check_models(load_spec(spec_file, ["student.path=Qwen/Qwen3-1.7B"]))


def test_the_list_of_head_sizes_is_vllms() -> None:
    from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend

    assert list(CPU_HEAD_SIZES) == CPUAttentionBackend.get_supported_head_sizes()


def test_the_spec_is_importable_without_torch() -> None:
    code = "import sys, fire_opd.spec; sys.exit(any(m in sys.modules for m in ('torch', 'transformers', 'prefect')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
