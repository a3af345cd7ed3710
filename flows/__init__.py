"""Prefect flows: each reads top to bottom on one screen."""
