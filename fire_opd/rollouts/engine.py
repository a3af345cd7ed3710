"""The sampling engine: vLLM in this process, with weights that are replaced in place. The only importer of vLLM.

Two facts about vLLM 0.32 shape this file. Tokens depend on the request alone only if every request has a seed, and
neighbouring seeds give equal samples, so n samples are n requests with hashed seeds. And its own engine process ends
only by force, so the engine runs in process.
"""

import gc
import os
import sys
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from fire_opd.errors import EngineError, StaleWeightsError
from fire_opd.generation import Completion, Request
from fire_opd.head.probes import Probes, noise_floor, prove_fresh, read_probes
from fire_opd.models import load_tokenizer, stop_tokens
from fire_opd.runtime import failpoints
from fire_opd.runtime.tick import Tick, no_tick
from fire_opd.spec import Device, ModelSpec

_CPU_CACHE_BYTES = 1 << 30  # key-value cache on CPU; on a GPU it is what `memory` leaves


class Sampler:
    """One model in vLLM.

    Args:
        path: model directory or hub id.
        model: its precision, revision and whether its own code may run.
        device: "cpu", or "cuda" on the GPUs that CUDA_VISIBLE_DEVICES names.
        max_model_len: longest prompt and response together, in tokens.
        threads: CPU threads.
        memory: share of each GPU's memory, key-value cache included; unused on CPU.
        gpus: GPUs over which the model is split (tensor parallelism).
        sleeps: whether `sleep` can free the GPUs' memory.

    Raises:
        PreflightError: the model names no end-of-sequence token.
        StaleWeightsError: the model carries probes, and vLLM computes something else from its weights.
    """

    def __init__(
        self,
        path: str | Path,
        model: ModelSpec,
        *,
        device: Device,
        max_model_len: int,
        threads: int = 1,
        memory: float = 0.3,
        gpus: int = 1,
        sleeps: bool = False,
    ) -> None:
        self._path, self._model = path, model
        self._stop_tokens = stop_tokens(path, model.revision)
        self._max_model_len = max_model_len
        self._noise_floor = noise_floor(model.dtype)
        _set_environment(device, threads)
        from vllm import LLM

        self._asleep = False
        self._llm: Any = LLM(
            model=str(path),
            revision=model.revision,
            dtype=model.dtype,
            trust_remote_code=model.trust_remote_code,
            load_format="safetensors",
            use_tqdm_on_load=False,
            skip_tokenizer_init=True,
            generation_config="vllm",  # nothing but the request decides how tokens are sampled
            max_model_len=max_model_len,
            seed=0,
            worker_extension_cls="fire_opd.rollouts.worker.WeightExtension",
            enable_sleep_mode=sleeps,
            **_device_settings(device, max_model_len, memory, gpus),
        )
        probes = read_probes(Path(path))
        if probes is not None:
            self._prove(Path(path), probes, None)

    def generate(self, requests: Sequence[Request], tick: Tick = no_tick) -> list[Completion]:
        """Sample all requests; completions come in the order of the requests.

        Raises:
            EngineError: a request does not fit the engine, or ended for another reason than its end or its length.
        """
        for request in requests:
            if not request.prompt_ids or len(request.prompt_ids) + request.max_tokens > self._max_model_len:
                raise EngineError(
                    f"a request of {len(request.prompt_ids)} prompt and {request.max_tokens} response tokens does not "
                    f"fit: expected a prompt, and at most {self._max_model_len} together; raise prompts.max_tokens"
                )
        from vllm import SamplingParams

        parameters = [
            SamplingParams(
                seed=r.seed,
                temperature=r.temperature,
                top_p=r.top_p,
                max_tokens=r.max_tokens,
                stop_token_ids=self._stop_tokens,
                detokenize=False,
                logprobs=0,
                flat_logprobs=True,
            )
            for r in requests
        ]
        return [_completion(output) for output in self._run([r.prompt_ids for r in requests], parameters, tick)]

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of a response, without special tokens."""
        text: str = self._tokenizer.decode(list(token_ids), skip_special_tokens=True)
        return text

    def load(self, checkpoint: Path, previous: Path | None) -> None:
        """Take the weights of `checkpoint` in place, and prove it.

        Args:
            checkpoint: directory of a model of the same shape.
            previous: directory of the weights held until now; None when unknown.

        Raises:
            StaleWeightsError: the engine still computes with other weights.
        """
        if not failpoints.skipped(f"sampler.reload.{checkpoint.parent.name}"):
            self._llm.collective_rpc("take_weights", args=(str(checkpoint),))
        if not self._llm.reset_prefix_cache():  # its blocks were computed with the old weights
            raise EngineError("vLLM did not drop its prefix cache: a request is still running")
        self._prove(checkpoint, read_probes(checkpoint), read_probes(previous) if previous else None)

    def probe(self, tokens: Sequence[Sequence[int]]) -> list[list[float]]:
        """Log-probs (nat) of each sequence's tokens but the first; sequences are cut to the engine's length."""
        from vllm import SamplingParams

        prompts = [row[: self._max_model_len - 1] for row in tokens]
        parameters = SamplingParams(
            temperature=0, max_tokens=1, detokenize=False, prompt_logprobs=0, flat_logprobs=True
        )
        outputs = self._run(prompts, [parameters] * len(prompts), no_tick)
        return [list(output.prompt_logprobs.logprobs) for output in outputs]

    def sleep(self) -> None:
        """Move the weights to host memory and drop the cache, until `wake`; for an engine built with `sleeps`."""
        self._llm.sleep(level=1)
        self._asleep = True

    def wake(self) -> None:
        """Take the GPUs' memory back; nothing happens to an engine that is awake."""
        if self._asleep:
            self._llm.wake_up()
            self._asleep = False

    def close(self) -> None:
        """End the engine and give its memory back. vLLM's process groups go with it: no other engine here works on."""
        if self._llm is not None:
            self._llm.llm_engine.engine_core.shutdown()
            self._llm = None
            gc.collect()

    @cached_property
    def _tokenizer(self) -> Any:
        return load_tokenizer(self._model.model_copy(update={"path": str(self._path)}))

    def _run(self, prompts: Sequence[Sequence[int]], parameters: Sequence[Any], tick: Tick) -> list[Any]:
        """Step the engine until all are finished. LLM.generate shows no progress before the first one is."""
        engine, finished = self._llm.llm_engine, []
        tick(0, len(prompts))
        self._llm.enqueue([{"prompt_token_ids": list(p)} for p in prompts], list(parameters), use_tqdm=False)
        while engine.has_unfinished_requests():
            finished += [output for output in engine.step() if output.finished]
            tick(len(finished), len(prompts))
        if len(finished) != len(prompts):
            raise EngineError(f"vLLM finished {len(finished)} of {len(prompts)} requests")
        return sorted(finished, key=lambda output: int(output.request_id))

    def _prove(self, checkpoint: Path, new: Probes | None, old: Probes | None) -> None:
        if new is not None:
            prove_fresh(self.probe(new.tokens), new, old, self._noise_floor, lambda: self._equals(checkpoint))
        elif not self._equals(checkpoint):
            raise StaleWeightsError(f"the engine's weights are not those of {checkpoint}; start it again")

    def _equals(self, checkpoint: Path) -> bool:
        """Whether each worker's comparable parameters, and at least one, are the checkpoint's."""
        found = self._llm.collective_rpc("compare_weights", args=(str(checkpoint),))
        return all(worker["equal"] and not worker["different"] for worker in found)


def _set_environment(device: Device, threads: int) -> None:
    """What vLLM reads when it is imported."""
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ["VLLM_NO_USAGE_STATS"] = "1"
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    if device == "cuda":
        return
    os.environ["OMP_NUM_THREADS"] = str(threads)
    os.environ["TORCHDYNAMO_DISABLE"] = "1"
    import torch

    if "vllm" not in sys.modules:  # vLLM refuses it later
        torch.set_num_threads(threads)


def _device_settings(device: Device, max_model_len: int, memory: float, gpus: int) -> dict[str, Any]:
    if device == "cuda":
        return {"gpu_memory_utilization": memory, "tensor_parallel_size": gpus}
    return {
        "enforce_eager": True,
        "kv_cache_memory_bytes": _CPU_CACHE_BYTES,
        "max_num_seqs": 512,
        "max_num_batched_tokens": max(32768, max_model_len),
    }


def _completion(output: Any) -> Completion:
    sample = output.outputs[0]
    if sample.finish_reason not in ("stop", "length"):
        raise EngineError(f"vLLM ended a request with {sample.finish_reason!r}; expected 'stop' or 'length'")
    token_ids = list(sample.token_ids)
    if sample.logprobs.token_ids != token_ids:
        raise EngineError(
            f"vLLM returned log-probs of {len(sample.logprobs)} tokens that are not the {len(token_ids)} sampled"
        )
    return Completion(token_ids, list(sample.logprobs.logprobs), sample.finish_reason)
