"""What a run shows on Prefect's pages: a table and a progress bar by round, a report with the picture at the end."""

import base64
import re
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from fire_opd.report import PICTURE, headline, round_figures
from fire_opd.storage import Run

if TYPE_CHECKING:
    from fire_opd.evaluation.gate import Verdict


class Board:
    """The artifacts of one run. Their keys carry the run's name: each round adds a version of the same table."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._rows: list[dict[str, Any]] = []
        self._progress: UUID | None = None

    def show_round(self, number: int) -> None:
        """Add the figures of a complete round to the table, and move the bar."""
        self._rows.append(_row(round_figures(self._run, number)))
        done = f"round {number} of {self._run.spec.rounds.count}"
        create_table_artifact(self._rows, self._key("rounds"), f"{done} of run `{self._run.folder}`")
        percent = 100 * number / self._run.spec.rounds.count
        if self._progress is None:
            self._progress = cast(UUID, create_progress_artifact(percent, self._key("progress"), done))
            create_link_artifact(self._run.folder.as_uri(), str(self._run.folder), self._key("folder"), "run directory")
        else:
            update_progress_artifact(self._progress, percent, done)

    def show_report(self, verdict: "Verdict | None" = None, outcome: str = "") -> None:
        """The result in words, the table, the picture."""
        picture = base64.b64encode(self._run.path(PICTURE).read_bytes()).decode()
        parts = [
            f"# {self._run.name}",
            f"Run directory: `{self._run.folder}` on the machine that ran it; figures: `report/summary.json`.",
            *([_gate(verdict, outcome)] if verdict else []),
            _markdown_table([self._rows[0], self._rows[-1]] if len(self._rows) > 1 else self._rows),
            f"![accuracy, share kept, divergence and length by round](data:image/png;base64,{picture})",
        ]
        create_markdown_artifact("\n\n".join(parts), self._key("report"), f"report of run {self._run.name}")

    def _key(self, what: str) -> str:
        return re.sub(r"[^a-z0-9]+", "-", f"{self._run.name}-{what}".lower()).strip("-")


def _row(figures: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {"round": figures["round"], "accuracy": f"{headline(figures['accuracy']):.1%}"}
    if not figures["round"]:
        return row | dict.fromkeys(
            ("kept", "loss", "reverse KL", "entropy", "truncated", "length", "tokens/s", "seconds"), ""
        )
    return row | {
        "kept": f"{figures['keep_ratio']:.0%}",
        "loss": f"{figures['loss']:+.4f}",
        "reverse KL": f"{figures['reverse_kl']:.3f}",
        "entropy": f"{figures['student_entropy']:.3f}",
        "truncated": f"{figures['truncation_rate']:.0%}",
        "length": f"{figures['length']:.1f}",
        "tokens/s": f"{figures['tokens'] / max(figures['seconds'], 1e-9):.0f}",
        "seconds": f"{figures['seconds']:.1f}",
    }


def _gate(verdict: "Verdict", outcome: str) -> str:
    lines = [
        f"**{outcome}** Promoted student {verdict.promoted:.1%}, new student {verdict.new:.1%}; "
        f"95 % interval of the change [{verdict.low:+.1%}, {verdict.high:+.1%}].",
        *(f"- {reason}" for reason in verdict.reasons),
        *(f"- {name}: {old:.1%} → {new:.1%}" for name, (old, new) in verdict.by_domain.items()),
    ]
    return "\n".join(lines)


def _markdown_table(rows: list[dict[str, Any]]) -> str:
    lines = [list(rows[0]), ["---"] * len(rows[0]), *([str(v) for v in row.values()] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
