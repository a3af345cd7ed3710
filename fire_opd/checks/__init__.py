"""All that can be checked before a run starts, without an engine: models, prompt sets, tokenizers, the machine."""

from fire_opd.checks.machine import check_machine
from fire_opd.checks.models import check_models
from fire_opd.checks.start import check_before, check_start, start_plain

__all__ = ["check_before", "check_machine", "check_models", "check_start", "start_plain"]
