"""Prompt sets are read and checked, and tokenizers compared, before any model is loaded."""

from pathlib import Path
from typing import Any

from fire_opd.evaluation.golds import check_golds
from fire_opd.prompts import prepare_prompts
from fire_opd.runtime.tick import Tick
from fire_opd.scores.preflight import preflight
from fire_opd.stages import Job, Output
from fire_opd.storage import Run


class Preparer:
    """Runs `prepare`; holds nothing."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def make(self, job: Job, output: Output, out: Path, tick: Tick) -> dict[str, Any]:
        """Write the prepared prompt sets."""
        report = preflight(self.run.spec)
        notes = report.pop("notes")
        counts = prepare_prompts(self.run.spec, out, tick)
        check_golds(out / "evaluation.parquet", self.run.spec.evaluation, tick)
        return {**counts, "preflight": report, "notes": notes}

    def rest(self) -> None:
        """Nothing is held."""
