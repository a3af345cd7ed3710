"""Pages, each one HTML file without network: of a run, with a browser of its trajectories; of a study; of a what-if."""

from fire_opd.report.page.page import PAGE, try_page, write_page
from fire_opd.report.page.sheet import Section, write_sheet

__all__ = ["PAGE", "Section", "try_page", "write_page", "write_sheet"]
