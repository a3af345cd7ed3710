"""The methods, one file each; a control of fire_kl stands beside the control of fire that it is."""

from fire_opd.fire.method import Method
from fire_opd.fire.methods.eopd import EOPD
from fire_opd.fire.methods.exopd import EXOPD
from fire_opd.fire.methods.fire import FIRE
from fire_opd.fire.methods.fire_kl import FIRE_KL
from fire_opd.fire.methods.fixed_negative import FIXED_NEGATIVE
from fire_opd.fire.methods.gkd import GKD
from fire_opd.fire.methods.iw_opd import IW_OPD
from fire_opd.fire.methods.opd import OPD
from fire_opd.fire.methods.position_weights import POSITION_WEIGHTS
from fire_opd.fire.methods.random_filter import RANDOM_FILTER, RANDOM_FILTER_KL
from fire_opd.fire.methods.random_weights import RANDOM_WEIGHTS, RANDOM_WEIGHTS_KL
from fire_opd.fire.methods.reopold import REOPOLD
from fire_opd.fire.methods.reverse_kl import REVERSE_KL
from fire_opd.fire.methods.signed import SIGNED
from fire_opd.fire.methods.tip import TIP
from fire_opd.fire.methods.uni_opd import UNI_OPD
from fire_opd.spec import RunSpec

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        *(FIRE, FIRE_KL, OPD, REVERSE_KL, GKD, EOPD, IW_OPD, REOPOLD, TIP, EXOPD, SIGNED, UNI_OPD),
        *(RANDOM_FILTER, RANDOM_WEIGHTS, POSITION_WEIGHTS, FIXED_NEGATIVE, RANDOM_FILTER_KL, RANDOM_WEIGHTS_KL),
    )
}


def method_of(spec: RunSpec) -> Method:
    """The method that a spec names."""
    return METHODS[spec.method.name]


__all__ = ["METHODS", "method_of"]
