"""Every family through DeepSpeed, by ZeRO stage, dtype and form of batches, against fp64: as near as it is by itself.

What docs/models.md says of training and packing comes from here.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from benchmarks.families import TRAINED
from fire_opd.head.family import LEAKING
from tests.families import FAMILIES, save_family

pytestmark = pytest.mark.full
# Relative norms. Layers with a state and experts round more in fp32 than the floor, in the plain model too.
FLOOR, NOISE = 5e-6, 3.0
FORMS: tuple[dict[str, Any], ...] = (
    {"train__zero": 0},
    {"train__zero": 1, "train__gradient_checkpointing": True, "train__packing": True},  # packed where that is exact
    {"train__zero": 2, "student__dtype": "bfloat16"},
    {"train__zero": 3},
)
CASES = dict(zip(TRAINED, FORMS, strict=True))
Property = Callable[[str, object], None]


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest, lab: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Tables of a round, its gradient in fp64, and how far the plain model is from it in fp32 and in bf16."""
    name, root = request.param, tmp_path_factory.mktemp(request.param)
    lab.students[name] = str(save_family(name, root / "model"))
    tables = lab.tables(root / "tables", name)
    exact = lab.reference(tables, name)
    gradient = {parameter: g for parameter, g in exact.gradient.items() if g is not None}
    own = {}
    for dtype, kind in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        plain = lab.reference(tables, name, dtype=kind).gradient
        own[dtype] = lab.relative_error({parameter: plain[parameter] for parameter in gradient}, gradient)
    return {"name": name, "root": root, "tables": tables, "gradient": gradient, "own": own}


@pytest.mark.parametrize("case", CASES)
def test_the_gradient_of_a_family(lab: Any, family: dict[str, Any], record_property: Property, case: str) -> None:
    name, out = family["name"], family["root"] / f"{case}.pt"
    settings = {"train__packing": False, "train__betas": [0.0, 0.999], "train__grad_clip": 1e9, **CASES[case]}
    settings["train__packing"] &= name not in LEAKING
    refused, trained, _ = lab.run(
        [
            ["new", lab.spec(name, **settings)],
            ["train", family["tables"], 1],
            ["dump", "exp_avg", out],
        ],
        ranks=2 if settings["train__zero"] else 1,
    )
    assert refused is None
    assert trained["tokens"] == 57
    found = torch.load(out)
    error = lab.relative_error({parameter: found[parameter] for parameter in family["gradient"]}, family["gradient"])
    assert not any(bool(found[parameter].any()) for parameter in found.keys() - family["gradient"].keys())
    dtype = "bf16" if "bf16" in case else "fp32"
    own = family["own"][dtype]
    assert error <= max(FLOOR, NOISE * own)
    record_property(f"{name}/{case}", f"{error:.0e} (own {dtype}: {own:.0e})")


def test_packing_of_a_family(lab: Any, family: dict[str, Any], record_property: Property) -> None:
    packed, padded = lab.run([["new", lab.spec(family["name"], train__packing=packing)] for packing in (True, False)])
    assert padded is None
    if family["name"] in LEAKING:
        assert "packed sequences see one another" in packed["message"]
    else:
        assert packed is None
    record_property(f"{family['name']}/packed", "refused: sequences would see one another" if packed else "exact")
