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

from fire_opd.evaluation.figure import Figure, figure_of
from fire_opd.report import PICTURE, round_figures, round_warning
from fire_opd.report.page import PAGE
from fire_opd.report.page.charts import lanes_sheet
from fire_opd.report.picture import png
from fire_opd.report.watch import remaining
from fire_opd.runtime.ledger import read_attempts
from fire_opd.stages import jobs_of
from fire_opd.storage import Run

if TYPE_CHECKING:
    from fire_opd.evaluation.gate import Verdict


class Board:
    """The artifacts of one run. Their keys carry the run's name: each round adds a version of the same table."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._rows: list[dict[str, Any]] = []
        self._trained: list[dict[str, Any]] = []  # figures of the rounds but round 0
        self._warning: str | None = None  # of the last round
        self._progress: UUID | None = None

    def show_round(self, number: int, recorded: int | None = None) -> None:
        """Add the figures of a complete round to the table, and move the bar.

        Args:
            number: of the round.
            recorded: the round up to which all is recorded, -1 for nothing; None when the run is not recorded.
        """
        figures, count = round_figures(self._run, number), self._run.spec.rounds.count
        self._rows.append(_row(figures, figure_of(self._run.spec.evaluation)))
        self._trained += [figures] if number else []
        self._warning = round_warning(self._run, number)
        left = remaining(self._trained, count - number) if number < count else ""
        done = "; ".join(filter(None, [_done(number, count, recorded), left]))
        about = [f"{done}; run `{self._run.folder}`", _stages(self._run, number), self._warning]
        create_table_artifact(self._rows, self._key("rounds"), "\n\n".join(filter(None, about)))
        percent = 100 * number / count
        if self._progress is None:
            self._progress = cast(UUID, create_progress_artifact(percent, self._key("progress"), done))
            create_link_artifact(self._run.folder.as_uri(), str(self._run.folder), self._key("folder"), "run directory")
        else:
            update_progress_artifact(self._progress, percent, done)

    def show_recorded(self, recorded: int | None) -> None:
        """Bring the words beside the bar up to date when all rounds are done."""
        if self._progress and recorded is not None:
            count = self._run.spec.rounds.count
            update_progress_artifact(self._progress, 100, _done(count, count, recorded))

    def show_report(self, verdict: "Verdict | None" = None, outcome: str = "") -> None:
        """The result in words, the table, the picture."""
        picture, lanes = self._run.path(PICTURE).read_bytes(), png(lanes_sheet(self._run))
        name = figure_of(self._run.spec.evaluation).name
        parts = [
            f"# {self._run.name}",
            f"Run directory: `{self._run.folder}` on the machine that ran it; figures: `report/summary.json`; "
            f"its trajectories and tokens, for a browser: `{PAGE}`.",
            *([f"**{self._warning}**"] if self._warning else []),
            *([_gate(verdict, outcome)] if verdict else []),
            _markdown_table([self._rows[0], self._rows[-1]] if len(self._rows) > 1 else self._rows),
            _image(f"{name}, share kept, divergence and length by round", picture),
            _image("every second by role", lanes),
        ]
        create_markdown_artifact("\n\n".join(parts), self._key("report"), f"report of run {self._run.name}")

    def _key(self, what: str) -> str:
        return re.sub(r"[^a-z0-9]+", "-", f"{self._run.name}-{what}".lower()).strip("-")


def _image(title: str, picture: bytes) -> str:
    return f"![{title}](data:image/png;base64,{base64.b64encode(picture).decode()})"


def _stages(run: Run, number: int) -> str:
    """What each stage of a round took."""
    spent = {job.label: read_attempts(run.path(f"ledger/{number}/{job.label}.json")) for job in jobs_of(run, number)}
    return " · ".join(f"{label} {sum(a['seconds'] for a in found):.1f} s" for label, found in spent.items() if found)


def _done(number: int, count: int, recorded: int | None) -> str:
    done = f"round {number} of {count}"
    if recorded is None:
        return done
    return f"{done}, recorded up to round {recorded}" if recorded >= 0 else f"{done}, nothing recorded yet"


def _row(figures: dict[str, Any], figure: Figure) -> dict[str, Any]:
    row: dict[str, Any] = {"round": figures["round"], figure.name: figure.show(figures["held_out"]["value"])}
    if "unreadable" in figures:
        row["unreadable"] = figure.show(figures["unreadable"], 0)
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
    figure = verdict.figure
    lines = [
        f"**{outcome}** Promoted student {figure.show(verdict.promoted)}, new student {figure.show(verdict.new)} "
        f"({figure.name}); 95 % interval of the change {figure.show_change(verdict.low, verdict.high)}.",
        *(f"- {reason}" for reason in verdict.reasons),
        *(f"- {name}: {figure.show(old)} → {figure.show(new)}" for name, (old, new) in verdict.by_domain.items()),
    ]
    return "\n".join(lines)


def _markdown_table(rows: list[dict[str, Any]]) -> str:
    lines = [list(rows[0]), ["---"] * len(rows[0]), *([str(v) for v in row.values()] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
