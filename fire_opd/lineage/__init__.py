"""Lineage: recorded runs in workspaces under git and DVC, and what can be done with them from the store alone."""
