"""Name the want of memory when that is what ended an engine, and the fields that need less."""

import re

from fire_opd.errors import EngineError, FireOpdError

# What torch, vLLM, numpy and the kernel say; status 137 is a SIGKILL, which the kernel's out-of-memory killer sends.
_SIGNS = re.compile(
    r"OutOfMemoryError|out of memory|can't allocate memory|MemoryError|Unable to allocate|Cannot allocate memory"
    r"|No available memory for the cache blocks|for want of memory"
)
_FIELDS = {
    "local": "lower rounds.rollouts or sampling.max_tokens",
    "preparer": "the prompt set is too large for this machine: split it",
    "sampler": "lower placement.sampler.memory (its share of a GPU), sampling.max_tokens or prompts.max_tokens",
    "scorer": "lower scoring.token_budget or scoring.head_chunk",
    "trainer": "lower train.token_budget or train.head_chunk, raise train.zero, set train.gradient_checkpointing, or "
    "give placement.trainer more devices",
}
_SHARE = "; engines that share a device can take turns: placement.<role>.mode = sleep or cold"


def explained(role: str, error: FireOpdError) -> FireOpdError:
    """The same error; with what to lower in front, if the engine's words show that it ran out of memory.

    Args:
        role: of the engine.
        error: what ended it, with the end of its log.
    """
    if isinstance(error, EngineError) and _SIGNS.search(str(error)):
        return type(error)(f"{role}: out of memory; {_FIELDS[role]}{_SHARE}. {error}")
    return error
