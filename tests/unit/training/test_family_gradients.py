"""Every family through DeepSpeed, whole and partitioned over two ranks, against fp64: as near as its own fp32 is.

What docs/models.md says of training and packing comes from here.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from fire_opd.head.family import LEAKING
from tests.families import FAMILIES, save_family

pytestmark = pytest.mark.full
# Relative norms. Layers with a state and experts round more in fp32 than the floor, in the plain model too.
FLOOR, NOISE = 5e-6, 3.0
Property = Callable[[str, object], None]


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest, lab: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Tables of a round, its gradient in fp64, and how far the plain fp32 model is from it."""
    name, root = request.param, tmp_path_factory.mktemp(request.param)
    lab.students[name] = str(save_family(name, root / "model"))
    tables = lab.tables(root / "tables", name)
    exact = lab.reference(tables, name)
    gradient = {parameter: g for parameter, g in exact.gradient.items() if g is not None}
    plain = lab.reference(tables, name, dtype=torch.float32).gradient
    own = lab.relative_error({parameter: plain[parameter] for parameter in gradient}, gradient)
    return {"name": name, "root": root, "tables": tables, "gradient": gradient, "own": own}


@pytest.mark.parametrize(("zero", "ranks"), [(0, 1), (3, 2)], ids=["ZeRO 0", "ZeRO 3"])
def test_the_gradient_of_a_family(
    lab: Any, family: dict[str, Any], record_property: Property, zero: int, ranks: int
) -> None:
    name, out = family["name"], family["root"] / f"zero{zero}.pt"
    changes = {"train__zero": zero, "train__betas": [0.0, 0.999], "train__grad_clip": 1e9}
    packed, padded, trained, _ = lab.run(
        [
            ["new", lab.spec(name, train__packing=True, **changes)],
            ["new", lab.spec(name, train__packing=False, **changes)],
            ["train", family["tables"], 1],
            ["dump", "exp_avg", out],
        ],
        ranks,
    )
    assert padded is None
    if name in LEAKING:
        assert "packed sequences see one another" in packed["message"]
    else:
        assert packed is None
    assert trained["tokens"] == 57
    found = torch.load(out)
    error = lab.relative_error({parameter: found[parameter] for parameter in family["gradient"]}, family["gradient"])
    assert not any(bool(found[parameter].any()) for parameter in found.keys() - family["gradient"].keys())
    assert error <= max(FLOOR, NOISE * family["own"])
    record_property(f"{name}/packed", "refused: sequences would see one another" if packed else "exact")
    record_property(f"{name}/train, ZeRO {zero}", f"{error:.0e} (own fp32: {family['own']:.0e})")
