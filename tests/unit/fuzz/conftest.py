"""Few examples in `make test`, many in `make test-full`; all within a bounded memory."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.unit.fuzz.mutations import bounded

_CHECKS = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
FEW = settings(max_examples=60, deadline=None, suppress_health_check=_CHECKS, derandomize=True, database=None)
MANY = settings(FEW, max_examples=3000, derandomize=False)


@pytest.fixture(autouse=True)
def memory() -> Iterator[None]:
    with bounded():
        yield
