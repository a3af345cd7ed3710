"""The promotion gate, on evaluations whose answer is known."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from fire_opd.errors import ArtifactError
from fire_opd.evaluation.gate import judge
from fire_opd.evaluation.metrics import GREEDY
from fire_opd.records import SAMPLE, write_table
from fire_opd.spec import GateSpec


def evaluation(folder: Path, correct: list[bool], *, k: int = GREEDY, domains: str = "ab", seed: int = 0) -> Path:
    """One sample a prompt; domains in turn."""
    rows = [
        {
            "prompt": f"{n:016x}",
            "domain": domains[n % len(domains)],
            "k": k,
            "text": "",
            "answer": "1",
            "correct": right,
            "length": 1,
            "finish_reason": "stop",
            "seed": seed + n,
        }
        for n, right in enumerate(correct)
    ]
    folder.mkdir()
    write_table(folder / "samples.parquet", pa.Table.from_pylist(rows, schema=SAMPLE), SAMPLE)
    return folder


def test_a_better_student_passes(tmp_path: Path) -> None:
    old, new = [n % 2 == 0 for n in range(200)], [n % 4 != 3 for n in range(200)]
    verdict = judge(evaluation(tmp_path / "old", old), evaluation(tmp_path / "new", new), GateSpec())
    assert verdict.passed
    assert not verdict.reasons
    assert (verdict.promoted, verdict.new) == (0.5, 0.75)
    assert 0.15 < verdict.low < 0.25 < verdict.high < 0.35
    assert verdict.by_domain == {"a": (1.0, 1.0), "b": (0.0, 0.5)}


def test_the_interval_is_the_paired_one(tmp_path: Path) -> None:
    """Pairing removes the spread of the prompts: 5 of 200 changes give sqrt(p(1-p)/n) of the changes alone."""
    old = [n % 2 == 0 for n in range(200)]
    new = [right or n in (1, 3, 5, 7, 9) for n, right in enumerate(old)]
    verdict = judge(evaluation(tmp_path / "old", old), evaluation(tmp_path / "new", new), GateSpec(margin=0))
    spread = float(np.sqrt(0.025 * 0.975 / 200))
    assert verdict.high - verdict.low == pytest.approx(2 * 1.96 * spread, rel=0.15)
    assert verdict.low > 0


def test_a_change_within_chance_passes_by_the_margin_only(tmp_path: Path) -> None:
    old = [n % 2 == 0 for n in range(400)]
    new = [not right if n < 4 else right for n, right in enumerate(old)]
    folders = evaluation(tmp_path / "old", old), evaluation(tmp_path / "new", new)
    assert judge(*folders, GateSpec(margin=0.02)).passed
    refused = judge(*folders, GateSpec(margin=0.001))
    assert not refused.passed
    assert "lower end must be above -0.1%" in refused.reasons[0]


def test_equal_students_pass_unless_a_gain_is_asked_for(tmp_path: Path) -> None:
    folders = [evaluation(tmp_path / name, [True, False] * 20) for name in ("old", "new")]
    assert judge(*folders, GateSpec()).passed
    assert not judge(*folders, GateSpec(margin=0)).passed
    assert not judge(*folders, GateSpec(margin=-0.01)).passed


def test_a_domain_that_falls_stops_it(tmp_path: Path) -> None:
    old = [True] * 200
    new = [not (n % 2 and n < 30) for n in range(200)]  # 15 of 100 of domain b
    verdict = judge(evaluation(tmp_path / "old", old), evaluation(tmp_path / "new", new), GateSpec(margin=1))
    assert verdict.reasons == ["domain b fell from 100.0% to 85.0%, by more than 5.0%"]


def test_only_the_same_prompts_and_seeds_are_compared(tmp_path: Path) -> None:
    old = evaluation(tmp_path / "old", [True] * 10)
    for other in (
        evaluation(tmp_path / "seed", [True] * 10, seed=1),
        evaluation(tmp_path / "fewer", [True] * 9),
        evaluation(tmp_path / "sampled", [True] * 10, k=0),
    ):
        with pytest.raises(ArtifactError, match="not evaluations of the same prompts"):
            judge(old, other, GateSpec())
