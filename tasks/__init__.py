"""Prefect tasks: the stages, promotion and its gate; leases of devices; what the pages show."""
