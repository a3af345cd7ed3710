"""A Ray cluster that cannot be used is one error before the start; more in tests/integration/test_ray."""

import socket
from importlib.util import find_spec

import pytest

from fire_opd.checks import check_machine, check_start
from fire_opd.errors import SpecError
from fire_opd.spec import PlacementSpec, RaySpec
from tests.conftest import Assets


def test_a_cluster_that_is_not_there(assets: Assets) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # nobody listens
        spec = assets.spec(f"placement.ray.address=127.0.0.1:{closed.getsockname()[1]}")
        said = "no Ray cluster answers there" if find_spec("ray") else "ray is not installed here: pip install"
        with pytest.raises(SpecError, match=rf"placement\.ray.*{said}"):
            check_start(spec)


def test_the_gpus_of_a_cluster_are_not_looked_for_here(assets: Assets) -> None:
    placement = PlacementSpec(device="cuda", ray=RaySpec(address="head:6379"))
    check_machine(assets.spec().model_copy(update={"placement": placement}))
