"""Prompt sets: read, check, route to a teacher, render, tokenise, and put into the order of the rounds."""

from fire_opd.prompts.check import check_prompt_set
from fire_opd.prompts.columns import Columns
from fire_opd.prompts.files import bare_name, is_beside, local_files, set_digest, shard_name
from fire_opd.prompts.order import round_prompts, wraps
from fire_opd.prompts.prepare import prepare_prompts
from fire_opd.prompts.problems import Problems
from fire_opd.prompts.publish import PromptSet, claim_prompts, claimed, find_prompts, publish_prompts, published_prompts
from fire_opd.prompts.read import RawPrompt, read_prompts

__all__ = [
    "Columns",
    "Problems",
    "PromptSet",
    "RawPrompt",
    "bare_name",
    "check_prompt_set",
    "claim_prompts",
    "claimed",
    "find_prompts",
    "is_beside",
    "local_files",
    "prepare_prompts",
    "publish_prompts",
    "published_prompts",
    "read_prompts",
    "round_prompts",
    "set_digest",
    "shard_name",
    "wraps",
]
