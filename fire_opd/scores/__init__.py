"""Scores: teacher and student log-prob and entropy of every response token, and the check that both can be compared."""

from fire_opd.scores.distribution import join_distribution, keep_distribution
from fire_opd.scores.preflight import preflight
from fire_opd.scores.score import score_round, score_rows, write_scores
from fire_opd.scores.scorer import Scorer

__all__ = [
    "Scorer",
    "join_distribution",
    "keep_distribution",
    "preflight",
    "score_round",
    "score_rows",
    "write_scores",
]
