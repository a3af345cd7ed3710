"""A run at work as its folder tells: what is done, what is being done, how long it may take."""

import io
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fire_opd.report.watch import rounds_done, sparkline, view, watch
from fire_opd.runtime.ledger import recorded
from fire_opd.stages import EVALUATE, ROLLOUT, ROUND, SCORE, SELECT, TRAIN, Job, Stage
from fire_opd.storage import Run, commit_stage
from tests.conftest import Assets
from tests.unit.report.test_report import GRADED, OTHERS


@pytest.fixture
def run(assets: Assets, tmp_path: Path) -> Run:
    """Of three rounds of two chunks, one is complete."""
    made = Run.create(tmp_path / "run", assets.spec("rounds.count=3", "rounds.chunk=32"))
    make(made, EVALUATE, 0, 0.25)
    for stage in ROUND:
        make(made, stage, 1, 0.5)
    return made


def make(run: Run, stage: Stage, number: int, greedy: float = 0, chunk: int | None = None) -> None:
    """The last output of a stage, as if it had run."""
    job = Job(run, stage, number, chunk=chunk)
    figures = {**GRADED, "greedy": greedy}
    metrics = {**figures, "by_domain": {"m": figures}} if stage is EVALUATE else OTHERS[stage.name]
    about: dict[str, Any] = {"stage": stage.name, "revision": stage.revision, "round": number, "threads": 1}
    with commit_stage(job.place(stage.outputs[-1]), params={}, inputs={}, **about) as writer:
        writer.metrics |= metrics
    attempt = {"ended": datetime.now(UTC).isoformat(), "outcome": "done", "seconds": 12.0, "gpu_seconds": 0, "cost": 0}
    ledger = run.path(f"ledger/{number}/{job.label}.json")
    ledger.parent.mkdir(parents=True, exist_ok=True)
    ledger.write_text(json.dumps([attempt]))


def test_what_is_done_and_what_is_being_done(run: Run) -> None:
    make(run, ROLLOUT, 2)
    make(run, SCORE, 2, chunk=0)
    with run.held():
        lines = view(run, 0, [])
    assert lines[0] == "run · fire_kl · at work, round 2 of 3"
    assert lines[1] == "accuracy 25.0% ▁█ 50.0%"
    assert re.fullmatch(r"✓ rollout 12\.0 s   … score \d s 1/2 chunks   select   train   evaluate", lines[2])
    assert re.fullmatch(r"a round takes 60\.0 s, 2 trained tokens/s; about (2\.0|1\.9) min left", lines[3])
    assert lines[-1] == "recorded up to round 0"
    assert view(run, -1, [])[0] == "run · fire_kl · stopped, round 2 of 3"


def test_an_attempt_that_failed_is_counted(run: Run) -> None:
    with pytest.raises(OSError, match="full"), recorded(run.path("ledger/2/rollout.json"), devices=0, price_per_hour=0):
        raise OSError("full")
    assert re.match(r"… rollout \d s, attempt 2   score", view(run, None, [])[2])


def test_the_start(assets: Assets, tmp_path: Path) -> None:
    new = Run.create(tmp_path / "run", assets.spec())
    assert rounds_done(new) == -1
    stages, noted = view(new, -1, [])[1:]
    assert re.fullmatch(r"… prepare \d s   baseline-m   baseline-c   init   evaluate", stages)
    assert noted == "nothing is recorded yet"


def test_in_a_pipe_it_is_a_line_a_round(run: Run) -> None:
    for number in (2, 3):
        for stage in (ROLLOUT, SCORE, SELECT, TRAIN, EVALUATE):
            make(run, stage, number, 0.75)
    out = io.StringIO()
    watch(run, lambda: None, Console(file=out))
    assert [line.partition(":")[0] for line in out.getvalue().splitlines()] == [f"round {n}/3" for n in range(4)]
    out = io.StringIO()
    watch(run, lambda: 3, Console(file=out, force_terminal=True))
    assert "complete" in out.getvalue()
    assert "recorded up to round 3" in out.getvalue()


def test_bars() -> None:
    assert sparkline([0.0, 0.5, 1.0]) == "▁▅█"
    assert sparkline([0.3, 0.3]) == "▁▁"
    assert len(sparkline([0.0] * 61)) == 31
