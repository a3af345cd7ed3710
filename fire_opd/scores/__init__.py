"""Scores: teacher and student log-prob and entropy of every response token, and the check that both can be compared."""

from fire_opd.scores.preflight import preflight
from fire_opd.scores.score import score_round
from fire_opd.scores.scorer import Scorer

__all__ = ["Scorer", "preflight", "score_round"]
