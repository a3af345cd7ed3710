"""The page of a run: one HTML file without network, with its figures and a browser of its trajectories."""

from fire_opd.report.page.page import PAGE, try_page, write_page

__all__ = ["PAGE", "try_page", "write_page"]
