"""The spec: defaults of the paper, contradictions refused with the field's name, overrides."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from fire_opd.errors import SpecError
from fire_opd.spec import dump_spec, load_spec, spec_values

MINIMAL = {
    "student": {"path": "models/student"},
    "teachers": {"math": {"path": "models/teacher"}},
    "prompts": {"path": "train.jsonl"},
    "evaluation": {"path": "test.jsonl"},
}

RAY = "placement.ray.address"
SERVER = "placement.servers.math"
CPU = ("placement.device=cpu",)


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
        (['teachers={"a;touch x": {path: models/teacher}}'], "teachers: 'a;touch x': expected letters"),
        (["teachers={../../a: {path: models/teacher}}"], "teachers: '../../a': expected letters"),
        (["train.zero=4"], "train.zero"),
        (["method={name: [fire]}"], "method.name"),
        (["train.zero=0"], "train.zero = 0 with student.dtype = bfloat16"),
        (["rounds.staleness=1", "placement.sampler.mode=cold"], "would wake or end while others work"),
        (["rounds.staleness=1", "rules.bounds.first_ratio_error={above: 0.5}"], "the ratio is not 1 at the first step"),
        (["evaluation.grader=none", "rules.bounds.unreadable={above: 0.5}"], "no answer is read"),
        (["placement.trainer.devices=[0, 0]"], "a rank has a GPU of its own; name each once"),
        (["placement.sampler.devices=[-1]"], "placement.sampler.devices"),
        (["sampling.top_p=0.9"], "sampling.top_p"),
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
        (["placement.trainer.mode=cold", "storage.state_every=2"], "storage.state_every = 2: a state that is not"),
        (["placement.trainer.replicas=2"], "placement.trainer.replicas = 2: the ranks of the trainer are its devices"),
        (
            ["placement.scorer={replicas: 2, devices: [0, 1]}"],
            "a round has 1 chunk(s) to share; set rounds.chunk to at",
        ),
        ([*CPU, "rounds.chunk=500", "placement.sampler.replicas=4"], "rounds.chunk to at most 256, or have fewer"),
        ([*CPU, "placement.sampler.devices=[0, 1]"], "placement.sampler.devices = [0, 1]: on a CPU only the trainer"),
        (["placement.ray.address=ray://head:10001"], "placement.ray.address: 'ray://head:10001': expected host:port"),
        (
            ["student.adapter.rank=4", "placement.sampler.devices=[0, 1]"],
            "placement.sampler.devices = [0, 1] with student.adapter: an adapter that is split over GPUs is not proved",
        ),
        (
            ["placement.ray.strategy=spread"],
            "placement.ray.strategy without placement.ray.address: there is no",
        ),
        (["placement.scorer.memory=0.5"], "placement.scorer.memory = 0.5: only the sampler takes a share"),
        ([f"{RAY}=head:6379", "placement.scorer.mode=sleep"], "placement.scorer.mode = sleep with placement.ray: each"),
        ([f"{RAY}=head:6379", "placement.ray.resources.GPU=1"], "placement.ray.resources.GPU = 1: expected"),
        (["placement.trainer.hostfile=hosts"], "hostfile: several machines are reached by placement.ray; leave it out"),
        (
            ["placement.scorer.devices=[0, 1]"],
            "placement.scorer.devices = [0, 1]: a scorer uses one GPU; name 1, or set",
        ),
        (["placement.sampler.devices=[1, 1]"], "placement.sampler.devices = [1, 1]: replica 0 has GPU 1 twice"),
        (
            ["rounds.chunk=64", "placement.sampler={replicas: 2, devices: [0, 1, 2]}"],
            "evenly to 2 replicas; name 2 GPUs",
        ),
        (["placement.servers.m={url: http://x}"], "placement.servers.m: there is no such teacher; the spec has math"),
        ([f"{SERVER}={{url: ftp://x}}"], "url: 'ftp://x': expected http(s)://host[:port][/v1]"),
        ([f"{SERVER}={{url: http://x:port}}"], "placement.servers.math.url: is no URL: Port"),
        ([f"{SERVER}={{url: 'https://me:secret@x'}}"], "placement.servers.math.url: holds credentials"),
        ([f"{SERVER}={{url: http://x, key_variable: KEY}}"], "would carry the key in the clear"),
        ([f"{SERVER}={{url: https://x, key_variable: sk-123}}"], "expected the name of an environment variable"),
        ([f"{SERVER}={{url: https://x, timeout: 120}}"], "must be below placement.tick_deadline = 120"),
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
    assert "secret" not in str(error.value)


def test_what_a_server_is_asked_for_is_what_the_method_needs(spec_file: Path) -> None:
    server = f"{SERVER}={{url: 'http://127.0.0.1:8000', key_variable: KEY}}"
    asked = {
        "distribution": ["method.name=fire", "method.name=random_filter", "method.name=gkd", "method.name=tip"],
        "sampled": ["method.name=opd", "weights.alpha=0", "method.name=random_weights", "method.name=reopold"],
    }
    for part, overrides in asked.items():
        assert [load_spec(spec_file, [server, o]).served for o in overrides] == [{"math": part}] * 4
    assert load_spec(spec_file).served is None


def test_devices_are_dealt_out_to_replicas(spec_file: Path) -> None:
    devices = "devices: [0, 2, 4, 6]"
    spec = load_spec(
        spec_file,
        [
            "rounds.chunk=100",
            f"placement.sampler={{replicas: 2, {devices}}}",
            f"placement.scorer={{replicas: 4, {devices}}}",
        ],
    )
    assert spec.rounds.chunks == 11
    assert [spec.placement.sampler.devices_of(n) for n in range(2)] == [[0, 2], [4, 6]]
    assert [spec.placement.scorer.devices_of(n) for n in range(4)] == [[0], [2], [4], [6]]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty; expected a mapping"),
        ("- a", "expected a mapping of spec fields, found list"),
        ("student:\n\tpath: x", "line 2, column 1: is not YAML: found character '\\t'"),
        ('student: {path: "a', "line 1, column 19: is not YAML: found unexpected end of stream"),
        ("prompts: {date: 2024-02-30}", "a value does not exist: day is out of range"),
        ("seed: 1\nseed: 2", "line 2, column 1: is not YAML: seed is given twice"),
        (b"student: {path: \xe9}", "is not UTF-8 (byte 16)"),
        ({"round": {"count": 2}}, "round: there is no such field; did you mean rounds?"),
        ({"train": {"lrr": 1}}, "train.lrr: there is no such field; did you mean train.lr?"),
        ({"percentile": 1}, "percentile: there is no such field; did you mean filter.percentile?"),
        ({"loss": {"learning_rate": 1}}, "loss.learning_rate: there is no such field; loss has clip, aggregation"),
        ({"teachers": {"m": {"paths": "x", "path": "y"}}}, "teachers.m.paths: there is no such field; did you mean"),
        ({"student": "Qwen/Qwen3-4B"}, "student: expected fields (path, revision, "),
        ({"teachers": "x"}, "teachers: expected fields (NAME: {path, revision, "),
        ({"student": {"dtype": "bfloat16"}}, "student.path: is missing"),
        ({"train": {"lr": "fast"}}, "train.lr: input should be a valid number"),
    ],
)
def test_a_mistake_in_the_file_is_one_line(text: str | bytes | dict[str, object], said: str, tmp_path: Path) -> None:
    file = tmp_path / "spec.yaml"
    content = yaml.safe_dump({**MINIMAL, **text}) if isinstance(text, dict) else text
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SpecError) as error:
        load_spec(file)
    assert str(error.value).startswith(f"{file}: {said}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("override", ["nonsense", "=3", "train.=4", "train.lr=[", "seed='1"])
def test_a_mistake_in_an_override_is_one_line(override: str, spec_file: Path) -> None:
    with pytest.raises(SpecError) as error:
        load_spec(spec_file, [override])
    assert str(error.value).startswith(f"override {override!r}: ")
    assert "\n" not in str(error.value)


def test_only_a_pinned_name_is_a_hub_id(spec_file: Path, tmp_path: Path) -> None:
    spec = load_spec(spec_file, ["teachers.math.revision=70d244c"])
    assert spec.student.path == str(tmp_path / "models/student")
    assert spec.teachers["math"].path == "models/teacher"


def test_values_by_path(spec_file: Path) -> None:
    values = spec_values(load_spec(spec_file), ["filter", "teachers.*.domains", "total_updates", "train.betas"])
    assert values == {
        "filter": {"percentile": 20, "scope": "batch", "micro_batch": None},
        "teachers.*.domains": {"math": []},
        "total_updates": 165,
        "train.betas": [0.9, 0.999],
    }


def test_the_spec_is_importable_without_torch() -> None:
    code = "import sys, fire_opd.spec; sys.exit(any(m in sys.modules for m in ('torch', 'transformers', 'prefect')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
