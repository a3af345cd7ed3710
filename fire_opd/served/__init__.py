"""Teachers behind vLLM servers: log-probs of given tokens, samples for a baseline, and proof of what answers."""

from fire_opd.served.check import check_servers
from fire_opd.served.client import Client
from fire_opd.served.probe import prove
from fire_opd.served.sample import ServedSampler
from fire_opd.served.teacher import Scored, ServedTeacher

__all__ = ["Client", "Scored", "ServedSampler", "ServedTeacher", "check_servers", "prove"]
