"""What the tests let run in the process that holds the vLLM engines. Engines stay there from test to test."""

import os
from collections.abc import Sequence
from pathlib import Path

from fire_opd.demo.models import EOS, VOCABULARY
from fire_opd.generation import Completion, Request
from fire_opd.rollouts import Sampler, sample_round
from fire_opd.runtime.tick import no_tick
from fire_opd.spec import ModelSpec, RunSpec

MAX_MODEL_LEN = 96
_samplers: dict[Path, Sampler] = {}


def _sampler(directory: Path) -> Sampler:
    if directory not in _samplers:
        model = ModelSpec(path=str(directory), dtype="float32")
        _samplers[directory] = Sampler(
            directory,
            model,
            stop_token_ids=[VOCABULARY.index(EOS)],
            vocab=len(VOCABULARY),
            device="cpu",
            max_model_len=MAX_MODEL_LEN,
        )
    return _samplers[directory]


def adapted(directory: Path, rank: int, layers: Sequence[str]) -> None:
    """Start an engine on `directory` that takes adapters."""
    _samplers[directory] = Sampler(
        directory,
        ModelSpec(path=str(directory), dtype="float32"),
        stop_token_ids=[VOCABULARY.index(EOS)],
        vocab=len(VOCABULARY),
        device="cpu",
        max_model_len=MAX_MODEL_LEN,
        lora=(rank, layers),
    )


def generate(directory: Path, requests: Sequence[Request]) -> list[Completion]:
    """By the shared engine that started with this model."""
    return _sampler(directory).generate(requests)


def ended_by(directory: Path, token: int, requests: Sequence[Request]) -> list[tuple[Completion, str]]:
    """What the shared engine samples, and its text, while `token` ends a response."""
    sampler = _sampler(directory)
    before, sampler._stop_tokens = sampler._stop_tokens, [token]
    completions = sampler.generate(requests)
    found = [(completion, sampler.decode(completion.token_ids)) for completion in completions]
    sampler._stop_tokens = before
    return found


def ticks(directory: Path, requests: Sequence[Request]) -> list[tuple[int, int]]:
    """Every sign of progress."""
    found: list[tuple[int, int]] = []
    _sampler(directory).generate(requests, lambda done, total: found.append((done, total)))
    return found


def reload(directory: Path, checkpoint: Path, previous: Path | None) -> None:
    """Let the shared engine of `directory` take other weights."""
    _sampler(directory).load(checkpoint, previous)


def reload_skipped(directory: Path, checkpoint: Path, previous: Path | None, marker: Path) -> None:
    """The same, but the engine keeps its old weights."""
    os.environ["FIRE_OPD_FAILPOINT"] = f"sampler.reload.{checkpoint.parent.name}={marker}"
    try:
        _sampler(directory).load(checkpoint, previous)
    finally:
        del os.environ["FIRE_OPD_FAILPOINT"]
    assert marker.is_file()


def reload_without_repacking(directory: Path, checkpoint: Path, previous: Path | None) -> None:
    """The same, but by vLLM's own reload alone."""
    engine = _sampler(directory)._llm
    rpc = engine.collective_rpc

    def plain(method: str, args: tuple[str, ...]) -> list[object]:
        if method == "take_weights":
            return rpc("reload_weights", kwargs={"weights_path": args[0]})
        return rpc(method, args=args)

    engine.collective_rpc = plain
    try:
        _sampler(directory).load(checkpoint, previous)
    finally:
        engine.collective_rpc = rpc


def sample(directory: Path, spec: RunSpec, prompts: Path, out: Path, number: int) -> dict[str, object]:
    """One round's rollouts."""
    return sample_round(_sampler(directory), spec, prompts, out, number, no_tick)


def close(directory: Path) -> None:
    """End the shared engine of `directory`, and with it all others."""
    _samplers.pop(directory).close()
