"""Metrics by update and round, and samples, for trackers of experiments: one small module each, behind one seam."""

from fire_opd.loggers.figures import RoundFigures, round_to_log
from fire_opd.loggers.loggers import Logger, Loggers

__all__ = ["Logger", "Loggers", "RoundFigures", "round_to_log"]
