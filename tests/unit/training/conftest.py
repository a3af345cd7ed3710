"""A tiny student, random rounds with ratios that are not 1, a plain fp64 computation of their gradient, and ranks."""

import json
import os
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from fire_opd.demo.models import build_model, build_tokenizer
from fire_opd.engines.spawn import LAUNCHER
from fire_opd.head.family import attention
from fire_opd.records import BATCH, ROLLOUT, SCORE, write_table
from fire_opd.spec import ModelSpec
from fire_opd.spec.needs import ScoreColumn
from tests.conftest import TINY
from tests.families import save_family

LENGTHS = [5, 1, 12, 7, 0, 9, 3, 12, 6, 2, 8, 4]
DROPPED = (4, 7)  # the empty one among them
WORKER = Path(__file__).with_name("worker.py")


def make_student(directory: Path, *, tied: bool, rows: int = 64) -> Path:
    build_model(TINY, 7, tied=tied, rows=rows).save_pretrained(directory)
    build_tokenizer().save_pretrained(directory)
    return directory


@dataclass(frozen=True)
class Reference:
    """The gradient and loss of one update on all kept rows, in fp64, one trajectory at a time."""

    gradient: dict[str, torch.Tensor]
    loss: float
    terms: float


def make_tables(directory: Path, student: str, *, order: list[int] | None = None, old_noise: float = 0.15) -> Path:
    """Tables of a round; `order` permutes the rows."""
    directory.mkdir(parents=True)
    rng = np.random.default_rng(3)
    model = _plain(student)
    rows = []
    for sample, length in enumerate(LENGTHS):
        prompt, response = rng.integers(2, 64, 3 + sample % 4).tolist(), rng.integers(2, 64, length).tolist()
        with torch.no_grad():
            logprobs = _sampled(_logprobs(model, prompt, response), response).numpy()
        row = {
            "round": 1,
            "prompt": f"p{sample:02d}",
            "sample": sample,
            "domain": "d",
            "teacher": "t",
            "prompt_ids": prompt,
            "response_ids": response,
            "engine_logprobs": logprobs,
            "finish_reason": "stop",
            "text": "",
            "seed": sample,
            "student_logprobs": logprobs + rng.normal(0, old_noise, length) if old_noise else logprobs,
            "student_entropies": np.ones(length),
            "teacher_logprobs": -rng.exponential(1, length),
            "teacher_entropies": np.ones(length),
            **dict.fromkeys(get_args(ScoreColumn)),
            "kept": sample not in DROPPED,
            "reason": "filter" if sample in DROPPED else None,
            "filter_score": 0.0,
            "threshold": 0.0,
            "teacher_entropy_max": 1.0,
            "student_entropy_max": 1.0,
            "weights": np.ones(length),
            "advantages": rng.normal(0, 1, length),
            "divergence_weights": rng.uniform(0.5, 2, length),
        }
        rows.append(row)
    rows = [rows[i] for i in order] if order else rows
    write_rows(directory, rows)
    np.save(directory / "t.npy", np.concatenate([distribution_of(row) for row in rows]))
    return directory


def distribution_of(row: dict[str, Any]) -> Any:
    """Whole log-probs of the teacher at the response tokens of a trajectory, as scores keep them."""
    logits = np.random.default_rng(1000 + row["sample"]).normal(0, 2, (len(row["response_ids"]), 64))
    return (logits - np.log(np.exp(logits).sum(1, keepdims=True))).astype(np.float32)


def _plain(student: str, dtype: torch.dtype = torch.float64) -> Any:
    """By default in fp64, without kernels that leave out a part of a family's attention or know no fp64.

    In other precisions with the trainer's: in bf16 Qwen3-MoE is 0.073 from fp64 with sdpa, 0.022 with plain attention.
    """
    if dtype is torch.float64:
        kernels = {"attn_implementation": "eager", "experts_implementation": "eager"}
    else:
        kernels = {"attn_implementation": attention(ModelSpec(path=student), AutoConfig.from_pretrained(student))}
    return AutoModelForCausalLM.from_pretrained(student, dtype=dtype, **kernels)


def write_rows(directory: Path, rows: list[dict[str, Any]]) -> None:
    for name, schema in (("rollouts", ROLLOUT), ("scores", SCORE), ("batch", BATCH)):
        columns = {field.name: pa.array([row[field.name] for row in rows], field.type) for field in schema}
        write_table(directory / f"{name}.parquet", pa.table(columns), schema)


def _logprobs(model: Any, prompt: list[int], response: list[int]) -> torch.Tensor:
    logits = model(input_ids=torch.tensor([prompt + response])).logits[0, :, :64]
    found: torch.Tensor = logits[len(prompt) - 1 : len(prompt) + len(response) - 1].log_softmax(-1)
    return found


def _sampled(logp: torch.Tensor, response: list[int]) -> torch.Tensor:
    return logp.gather(1, torch.tensor(response, dtype=torch.long)[:, None])[:, 0]


def reference(
    tables: Path,
    student: str,
    aggregation: str = "seq-mean-token-mean",
    method: str = "fire",
    clip: float = 0.2,
    dtype: torch.dtype = torch.float64,
) -> Reference:
    """method.md's loss written once more, plainly: mean over tokens, mean over trajectories (or tokens)."""
    import pyarrow.parquet as pq

    model = _plain(student, dtype)
    merged = [pq.read_table(tables / f"{name}.parquet").to_pylist() for name in ("rollouts", "scores", "batch")]
    rows = [a | b | c for a, b, c in zip(*merged, strict=True) if c["kept"]]
    tokens = sum(len(row["response_ids"]) for row in rows)
    losses, terms = [], 0.0
    for row in rows:
        logp = _logprobs(model, row["prompt_ids"], row["response_ids"])
        logprob = _sampled(logp, row["response_ids"])
        old, advantage = (torch.tensor(row[name], dtype=torch.float64) for name in ("student_logprobs", "advantages"))
        ratio = (logprob - old).exp()
        surrogate = -torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage)
        size = surrogate.detach().abs()
        if method == "reverse_kl":
            divergence = (logp.exp() * (logp - torch.tensor(distribution_of(row)))).sum(-1)
            divergence = divergence * torch.tensor(row["divergence_weights"], dtype=torch.float64)
            surrogate, size = surrogate + divergence, size + divergence.detach()
        weighted = surrogate.mean() / len(rows) if aggregation == "seq-mean-token-mean" else surrogate.sum() / tokens
        terms += float(size.sum() * (weighted / surrogate.sum()).detach().abs())
        losses.append(weighted)
    loss = torch.stack(losses).sum()
    loss.backward()
    gradient = {name: parameter.grad for name, parameter in model.named_parameters()}
    return Reference(gradient, float(loss.detach()), terms)


def relative_error(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> float:
    """Norm of the difference over the norm of what is expected, all tensors as one vector."""
    assert found.keys() == expected.keys()
    difference = sum(float((found[n].double() - expected[n].double()).square().sum()) for n in expected)
    return float(np.sqrt(difference / sum(float(expected[n].double().square().sum()) for n in expected)))


def make_spec(student: str, **changes: Any) -> dict[str, Any]:
    """A spec as plain values; `changes` are dotted paths with `__` for the dot."""
    spec: dict[str, Any] = {
        "student": {"path": student, "dtype": "float32"},
        "teachers": {"t": {"path": student, "dtype": "float32"}},
        "prompts": {"path": "unused.jsonl"},
        "rounds": {"count": 3, "rollouts": len(LENGTHS), "updates": 1},
        "train": {"lr": 1e-3, "zero": 0, "token_budget": 40, "gradient_checkpointing": False, "head_chunk": 16},
        "evaluation": {"path": "unused.jsonl"},
        "placement": {"device": "cpu"},
        "filter": {"percentile": 0},
    }
    for path, value in changes.items():
        part, _, field = path.partition("__")
        spec[part] = {**spec.get(part, {}), field: value}
    return spec


class Lab:
    """Students, tables, specs and ranks for the tests of a session."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.students = {
            "tied": str(make_student(root / "tied", tied=True)),
            "untied": str(make_student(root / "untied", tied=False)),
            "padded": str(make_student(root / "padded", tied=True, rows=80)),
            **{name: str(save_family(name, root / name)) for name in ("granite", "gemma2", "qwen3_moe", "lfm2")},
        }

    def tables(self, directory: Path, student: str, **options: Any) -> Path:
        return make_tables(directory, self.students[student], **options)

    def reference(self, tables: Path, student: str, **options: Any) -> Reference:
        return reference(tables, self.students[student], **options)

    def spec(self, student: str, **changes: Any) -> dict[str, Any]:
        return make_spec(self.students[student], **changes)

    relative_error = staticmethod(relative_error)

    def run(self, script: list[list[Any]], ranks: int = 1) -> list[Any]:
        """Run a script of operations (see worker.py) in fresh processes, one a rank; the results of rank 0."""
        directory = Path(tempfile.mkdtemp(dir=self.root))
        source, results = directory / "script.json", directory / "results.json"
        source.write_text(json.dumps(script, default=str))
        env = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "DS_ACCELERATOR": "cpu",
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "TORCH_EXTENSIONS_DIR": os.environ.get("TORCH_EXTENSIONS_DIR", str(Path(sys.prefix) / "torch_extensions")),
        }
        if ranks == 1:
            command = [sys.executable]
            env |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
            env["MASTER_PORT"] = str(free_port())
        else:
            command = [sys.executable, "-m", LAUNCHER, "--num_gpus", str(ranks), "--no_local_rank"]
            port = free_port()
            command += ["--master_port", str(port)]
        log = directory / "log"
        with log.open("w") as output:
            done = subprocess.run(
                [*command, str(WORKER), str(source), str(results)], env=env, stdout=output, stderr=output, timeout=840
            )
        assert done.returncode == 0, log.read_text()[-8000:]
        if ranks > 1:
            assert not [*Path("/dev/shm").glob(f"deepspeed_*_{port}_*")], "ranks leave memory behind"
        found: list[Any] = json.loads(results.read_text())
        return found


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("training"))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
