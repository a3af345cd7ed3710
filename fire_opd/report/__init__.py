"""What a run did, read from its manifests and ledger: a line a round, a table, a picture, a JSON summary."""

from fire_opd.report.figures import measured, round_figures, round_line, round_warning, summarize
from fire_opd.report.files import PICTURE, write_report
from fire_opd.report.table import print_report

__all__ = [
    "PICTURE",
    "measured",
    "print_report",
    "round_figures",
    "round_line",
    "round_warning",
    "summarize",
    "write_report",
]
