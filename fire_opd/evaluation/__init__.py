"""Evaluation: sampled answers to held-out prompts, graded and counted by domain."""
