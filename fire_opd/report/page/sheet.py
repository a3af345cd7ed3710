"""A page of sections, each with lines, a drawing and a table: of a study, and of a what-if."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fire_opd.report.page.charts import svg
from fire_opd.report.page.template import render


@dataclass(frozen=True)
class Section:
    """A part of a page.

    Attributes:
        title: of the part.
        lines: paragraphs.
        figure: a matplotlib figure, drawn below them.
        table: its first row the headings; the first column is text, the others are numbers.
    """

    title: str
    lines: Sequence[str] = ()
    figure: Any = None
    table: Sequence[Sequence[str]] = ()

    @property
    def drawing(self) -> str:
        """The figure as an SVG element without a ground of its own, so that light and dark pages can show it."""
        if self.figure is None:
            return ""
        for axes in self.figure.axes:
            axes.patch.set_alpha(0)
        self.figure.patch.set_alpha(0)
        return svg(self.figure)


def write_sheet(file: Path, title: str, headline: str, sections: Sequence[Section]) -> None:
    """Write a page into `file`: one HTML file that loads nothing."""
    file.write_text(render("sheet.html", title=title, headline=headline, sections=sections), encoding="utf-8")
