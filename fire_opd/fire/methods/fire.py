"""FiRe-OPD (arXiv 2606.02684): plain OPD on filtered trajectories, with weighted tokens.

A_t = w̃_t (log πT(y_t) − log πS(y_t)); OPD has w̃ = 1 and drops nothing.
"""

from fire_opd.fire.method import Method
from fire_opd.fire.methods.opd import weighted_advantage

FIRE = Method("fire", weighted_advantage)
