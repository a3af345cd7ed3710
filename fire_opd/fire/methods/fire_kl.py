"""FiRe's filter and weights on the reverse KL to the whole distribution: u_t = w̃_t. This project's own."""

from fire_opd.fire.method import Method
from fire_opd.fire.methods.reverse_kl import weighted_divergence

FIRE_KL = Method("fire_kl", weighted_divergence)
