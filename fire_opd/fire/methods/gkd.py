"""GKD (arXiv 2306.13649): a generalised Jensen-Shannon divergence, here on the student's own samples alone."""

from fire_opd.fire.method import Method
from fire_opd.fire.methods.reverse_kl import weighted_divergence

GKD = Method("gkd", weighted_divergence)
