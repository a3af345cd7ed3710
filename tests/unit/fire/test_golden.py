"""The golden numbers of FiRe and plain OPD on five small trajectories (natural logarithm, ratio 1)."""

from typing import get_args

import numpy as np
import pyarrow as pa
import pytest
import torch

from fire_opd.fire.losses import clipped_policy_loss, coefficients
from fire_opd.fire.select import select
from fire_opd.records import ROLLOUT, SCORE
from fire_opd.spec import RunSpec
from fire_opd.spec.needs import ScoreColumn

LOG_S = [[-0.5, -1.2], [-0.1, -0.7, -2.0], [-1.0], [-0.3, -0.3], [-0.9, -0.2]]
LOG_T = [[-0.4, -2.2], [-0.2, -0.3, -1.0], [-4.0], [-0.1, -0.6], [-0.5, -0.1]]
H_S = [[0.6, 1.5], [0.1, 0.8, 2.0], [1.0], [0.4, 0.5], [1.1, 0.3]]
H_T = [[0.5, 1.0], [0.2, 0.4, 0.8], [2.0], [0.1, 0.3], [0.6, 0.2]]
RAW = [[2.275, 2.625], [1.995, 2.52, 3.2], [1.5], [2.34, 2.3125], [2.635, 2.185]]
NORMALISED = [[0.9286, 1.0714], [0.7758, 0.9799, 1.2443], [1], [1.0059, 0.9941], [1.0934, 0.9066]]
ADVANTAGES = [[0.0929, -1.0714], [-0.0776, 0.392, 1.2443], [-3], [0.2012, -0.2982], [0.4373, 0.0907]]


def make_spec(**parts: object) -> RunSpec:
    return RunSpec.model_validate(
        {
            "student": {"path": "s"},
            "teachers": {"t": {"path": "t"}},
            "prompts": {"path": "p"},
            "evaluation": {"path": "e"},
            "rounds": {"rollouts": 1024},
            **parts,
        }
    )


def make_tables(
    log_s: list[list[float]],
    log_t: list[list[float]],
    h_s: list[list[float]],
    h_t: list[list[float]],
    **columns: list[object],
) -> tuple[pa.Table, pa.Table]:
    """Rollouts and scores of these trajectories; `columns` replace columns of both."""
    size = len(log_s)
    ids = {"round": [1] * size, "prompt": [f"p{i}" for i in range(size)], "sample": [0] * size}
    teacher = columns.pop("teacher", ["t"] * size)
    asked = {name: columns.pop(name, [None] * size) for name in get_args(ScoreColumn)}
    ids["prompt"] = columns.pop("prompt", ids["prompt"])
    rollouts = {
        **ids,
        "domain": teacher,
        "teacher": teacher,
        "prompt_ids": [[1]] * size,
        "response_ids": [list(range(len(row))) for row in log_s],
        "engine_logprobs": log_s,
        "finish_reason": ["stop"] * size,
        "text": [""] * size,
        "seed": [0] * size,
        **columns,
    }
    scores = {
        **ids,
        "teacher": teacher,
        "teacher_logprobs": log_t,
        "teacher_entropies": h_t,
        "student_logprobs": log_s,
        "student_entropies": h_s,
        **asked,
    }
    return pa.table(rollouts, schema=ROLLOUT), pa.table(scores, schema=SCORE)


def trajectory_losses(batch: pa.Table, keep_all: bool = False, aggregation: str = "seq-mean-token-mean") -> list[float]:
    """Loss of each trajectory (kept ones unless told) at ratio 1 with divisor 1."""
    losses = []
    for row, old in zip(batch.to_pylist(), LOG_S, strict=True):
        if not (row["kept"] or keep_all):
            continue
        old_N, advantage_N = torch.tensor(old), torch.tensor(row["advantages"])
        loss, _ = clipped_policy_loss(old_N, old_N, advantage_N, coefficients([len(old)], aggregation, 1), 0.2)
        losses.append(float(loss))
    return losses


def near(rows: list[list[float]], expected: list[list[float]]) -> bool:
    return np.allclose(np.concatenate(rows), np.concatenate(expected), atol=6e-5)


def test_fire() -> None:
    batch, metrics = select(*make_tables(LOG_S, LOG_T, H_S, H_T), make_spec())
    assert np.allclose(batch["filter_score"], [-1.3, -0.5, -4.0, -0.35, -0.3], atol=1e-6)
    assert np.allclose(batch["threshold"], -1.84, atol=1e-6)
    assert batch["kept"].to_pylist() == [True, True, False, True, True]
    assert batch["reason"].to_pylist() == [None, None, "filtered", None, None]
    assert near(batch["weights"].to_pylist(), NORMALISED)
    assert near([[w / np.mean(row) for w in row] for row in RAW], batch["weights"].to_pylist())
    assert near(batch["advantages"].to_pylist(), ADVANTAGES)
    assert np.allclose(trajectory_losses(batch, keep_all=True), [0.4893, -0.5196, 3.0, 0.0485, -0.264], atol=6e-5)
    assert np.mean(trajectory_losses(batch)) == pytest.approx(-0.0614, abs=6e-5)
    assert np.mean(trajectory_losses(batch, keep_all=True)) == pytest.approx(0.5508, abs=6e-5)
    kept_tokens = 9
    assert sum(trajectory_losses(batch, aggregation="token-mean")) / kept_tokens == pytest.approx(-0.1123, abs=6e-5)
    assert (metrics["kept"], metrics["dropped"], metrics["keep_ratio"]) == (4, {"filtered": 1}, 0.8)


def test_the_released_code_at_micro_batch_1() -> None:
    """Its maxima are those of one trajectory, and its filter never drops anything."""
    spec = make_spec(filter={"percentile": 0}, weights={"scope": "micro_batch", "micro_batch": 1})
    batch, _ = select(*make_tables(LOG_S, LOG_T, H_S, H_T), spec)
    assert all(batch["kept"].to_pylist())
    losses = trajectory_losses(batch)
    assert np.allclose(losses, [0.4366, -0.4474, 3.0, 0.0, -0.2456], atol=6e-5)
    assert np.mean(losses) == pytest.approx(0.5487, abs=6e-5)


def test_plain_opd_bit_for_bit() -> None:
    spec = make_spec(filter={"percentile": 0}, weights={"alpha": 0, "beta": 0})
    rollouts, scores = make_tables(LOG_S, LOG_T, H_S, H_T)
    batch, _ = select(rollouts, scores, spec)
    teacher, student = (
        np.concatenate([np.array(row, np.float32) for row in scores[name].to_pylist()]).astype(np.float64)
        for name in ("teacher_logprobs", "student_logprobs")
    )
    plain = (teacher - student).astype(np.float32)
    assert np.concatenate(batch["advantages"].to_pylist()).astype(np.float32).tobytes() == plain.tobytes()
    assert np.mean(trajectory_losses(batch)) == pytest.approx(0.5633, abs=6e-5)
    assert sum(trajectory_losses(batch, aggregation="token-mean")) / 10 == pytest.approx(0.22, abs=6e-5)
