"""Processes, seeds and the cost ledger: what surrounds a stage while it runs."""
