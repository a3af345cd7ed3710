"""Rollouts: the student samples its own trajectories in vLLM."""

from fire_opd.rollouts.engine import Sampler
from fire_opd.rollouts.sample import sample_round, sample_rows, write_rollouts

__all__ = ["Sampler", "sample_round", "sample_rows", "write_rollouts"]
