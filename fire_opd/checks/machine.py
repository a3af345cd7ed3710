"""Does this machine have what the spec names: devices, and the libraries of loggers?"""

from importlib.util import find_spec

from fire_opd.errors import SpecError
from fire_opd.spec import RunSpec

_ROLES = ("sampler", "scorer", "trainer")


def check_machine(spec: RunSpec) -> None:
    """Refuse devices that are not here. On Ray other machines count, and nothing is said.

    Raises:
        SpecError: naming the role, what it asks for and what there is; or a logger whose library is not installed.
    """
    for name in spec.loggers.to:
        if find_spec(name) is None:
            raise SpecError(
                f"loggers.to names {name}, which is not installed here: pip install {name}, or leave it out"
            )
    placement = spec.placement
    if placement.device == "cpu" or placement.ray.address:
        return
    import torch

    count = torch.cuda.device_count()
    if not count:
        raise SpecError(
            "placement.device is cuda, and this machine has no GPU that torch can use; start the run where there is "
            "one, or set placement.device to cpu"
        )
    for role in _ROLES:
        wanted = getattr(placement, role)
        absent = [index for index in wanted.devices if index >= count]
        if absent:
            raise SpecError(
                f"placement.{role}.devices names GPU {absent[0]}, and this machine has {count}, counted from 0"
            )
