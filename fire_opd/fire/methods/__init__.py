"""The methods, one file each."""

from fire_opd.fire.method import Method
from fire_opd.fire.methods import controls, distribution, eopd, iw_opd, reopold, sampled, signed, tip, uni_opd
from fire_opd.spec import RunSpec

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        *(sampled.FIRE, sampled.OPD, iw_opd.IW_OPD, reopold.REOPOLD, eopd.EOPD, tip.TIP),
        *(signed.EXOPD, signed.SIGNED, uni_opd.UNI_OPD),
        *(distribution.FIRE_KL, distribution.REVERSE_KL, distribution.GKD),
        *(controls.RANDOM_FILTER, controls.RANDOM_WEIGHTS, controls.POSITION_WEIGHTS, controls.FIXED_NEGATIVE),
        *(controls.RANDOM_FILTER_KL, controls.RANDOM_WEIGHTS_KL),
    )
}


def method_of(spec: RunSpec) -> Method:
    """The method that a spec names."""
    return METHODS[spec.method.name]


__all__ = ["METHODS", "method_of"]
