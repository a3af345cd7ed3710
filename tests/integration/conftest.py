"""The undisturbed run is shared by all files of this folder."""

from tests.integration.test_faults import undisturbed

__all__ = ["undisturbed"]
