"""Prefect tasks: one file a stage, each a thin wrapper that asks the crew to bring a job up to date."""
