"""Prompt sets: read, check, route to a teacher, render, tokenise, and put into the order of the rounds."""

from fire_opd.prompts.order import round_prompts
from fire_opd.prompts.prepare import prepare_prompts
from fire_opd.prompts.publish import PromptSet, claim_prompts, claimed, find_prompts, publish_prompts, published_prompts
from fire_opd.prompts.read import Problems, RawPrompt, read_prompts

__all__ = [
    "Problems",
    "PromptSet",
    "RawPrompt",
    "claim_prompts",
    "claimed",
    "find_prompts",
    "prepare_prompts",
    "publish_prompts",
    "published_prompts",
    "read_prompts",
    "round_prompts",
]
