"""The sampling engine: vLLM in this process, with weights that are replaced in place. Only this folder imports vLLM.

Two facts about vLLM 0.32 shape this file. Tokens depend on the request alone only if every request has a seed, and
neighbouring seeds give equal samples, so n samples are n requests with hashed seeds. And its own engine process ends
only by force, so the engine runs in process.
"""

import gc
from collections.abc import Sequence
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

from fire_opd.errors import EngineError, StaleWeightsError
from fire_opd.generation import Completion, Request
from fire_opd.head.probes import noise_floor, prove_fresh, read_probes
from fire_opd.models import load_tokenizer, response_text
from fire_opd.rollouts.settings import adapter_settings, device_settings, set_environment
from fire_opd.rollouts.worker import same_tensors
from fire_opd.runtime import failpoints
from fire_opd.runtime.imports import quick_imports
from fire_opd.runtime.tick import Tick, no_tick
from fire_opd.spec import Device, ModelSpec


class Sampler:
    """One model in vLLM.

    Args:
        path: model directory or hub id.
        model: its precision, revision and whether its own code may run.
        stop_token_ids: tokens that end a response.
        lora: rank of the adapters that `load` takes, and the layers they are on; None: `load` takes whole models.
        vocab: ids below it can be sampled; rows of the output matrix beyond it are padding.
        device: "cpu", or "cuda" on the GPUs that CUDA_VISIBLE_DEVICES names.
        max_model_len: longest prompt and response together, in tokens.
        threads: CPU threads.
        memory: share of each GPU's memory, key-value cache included; unused on CPU.
        gpus: GPUs over which the model is split (tensor parallelism).
        sleeps: whether `sleep` can free the GPUs' memory.

    Raises:
        EngineError: the vocabulary of this model cannot be cut to `vocab`.
        StaleWeightsError: the model carries probes, and vLLM computes something else from its weights.
    """

    def __init__(
        self,
        path: str | Path,
        model: ModelSpec,
        *,
        stop_token_ids: Sequence[int],
        vocab: int,
        device: Device,
        max_model_len: int,
        threads: int = 1,
        memory: float = 0.3,
        gpus: int = 1,
        sleeps: bool = False,
        lora: tuple[int, Sequence[str]] | None = None,
    ) -> None:
        self._path, self._model = path, model
        self._stop_tokens = list(stop_token_ids)
        self._max_model_len = max_model_len
        self._noise_floor, self._split = noise_floor(model.dtype), gpus > 1
        set_environment(device, threads)
        with quick_imports():
            from vllm import LLM

        self._asleep = False
        self._takes_adapters, self._adapters, self._adapter = lora is not None, 0, None
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
            **device_settings(device, max_model_len, memory, gpus)
            | (adapter_settings(device, max_model_len, *lora) if lora else {}),
        )
        if not all(self._llm.collective_rpc("limit_vocabulary", args=(vocab,))):
            raise EngineError(f"{path}: vLLM makes the logits of this model in a way that cannot be cut to {vocab} ids")
        if read_probes(Path(path)) is not None:
            self._prove(Path(path), None)

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
                ignore_eos=True,  # of the model's config, which vLLM reads by itself
                detokenize=False,
                logprobs=0,
                flat_logprobs=True,
            )
            for r in requests
        ]
        self._forget()  # what the engine did before, which other chunks, must not decide how these are computed
        return [_completion(output) for output in self._run([r.prompt_ids for r in requests], parameters, tick)]

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of a response, without special tokens, and without the token that ended it."""
        return response_text(self._tokenizer, token_ids, self._stop_tokens)

    def load(self, checkpoint: Path, previous: Path | None) -> None:
        """Take the weights of `checkpoint` in place, and prove it.

        Args:
            checkpoint: directory of a model of the same shape, or of an adapter of the same rank.
            previous: directory of the weights held until now; None when unknown.

        Raises:
            StaleWeightsError: the engine still computes with other weights.
        """
        if not failpoints.skipped(f"sampler.reload.{checkpoint.parent.name}"):
            if self._takes_adapters:
                self._adapter = self._new_adapter(checkpoint)
            else:
                self._llm.collective_rpc("take_weights", args=(str(checkpoint),))
        self._forget()  # its blocks were computed with the old weights
        self._prove(checkpoint, previous)

    def _forget(self) -> None:
        """Drop the prefix cache."""
        if not self._llm.reset_prefix_cache():
            raise EngineError("vLLM did not drop its prefix cache: a request is still running")

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

    def _new_adapter(self, checkpoint: Path) -> Any:
        """What a request names an adapter by; vLLM reads it with the first request. Numbers are used once."""
        from vllm.lora.request import LoRARequest

        self._adapters += 1
        return LoRARequest(f"adapter {self._adapters}", self._adapters, str(checkpoint))

    def _run(self, prompts: Sequence[Sequence[int]], parameters: Sequence[Any], tick: Tick) -> list[Any]:
        """Step the engine until all are finished. LLM.generate shows no progress before the first one is."""
        engine, finished = self._llm.llm_engine, []
        tick(0, len(prompts))
        tokens = [{"prompt_token_ids": list(p)} for p in prompts]
        self._llm.enqueue(tokens, list(parameters), lora_request=self._adapter, use_tqdm=False)
        while engine.has_unfinished_requests():
            finished += [output for output in engine.step() if output.finished]
            tick(len(finished), len(prompts))
        if len(finished) != len(prompts):
            raise EngineError(f"vLLM finished {len(finished)} of {len(prompts)} requests")
        return sorted(finished, key=lambda output: int(output.request_id))

    def _prove(self, checkpoint: Path, previous: Path | None) -> None:
        new, old = read_probes(checkpoint), read_probes(previous) if previous else None
        if new is not None:
            equals = cache(partial(self._equals, checkpoint, previous))
            prove_fresh(self.probe(new.tokens), new, old, self._noise_floor, equals)
            if self._split and not equals():  # one part may be stale, and the whole still nearer to the new weights
                raise StaleWeightsError(f"a GPU's part of the weights is not that of {checkpoint}; start it again")
        elif not self._equals(checkpoint, previous):
            raise StaleWeightsError(f"the engine's weights are not those of {checkpoint}; start it again")

    def _equals(self, checkpoint: Path, previous: Path | None) -> bool:
        """Whether each worker's comparable parameters, and at least one, are its part of the checkpoint's.

        Raises:
            StaleWeightsError: none of them differs from the previous checkpoint, so this would prove nothing.
        """
        if self._adapter:  # all of it is compared
            found = self._llm.collective_rpc("compare_adapter", args=(str(checkpoint),))
            return all(worker["equal"] and not worker["different"] for worker in found)
        found = self._llm.collective_rpc("compare_weights", args=(str(checkpoint), str(previous) if previous else None))
        equal = all(worker["equal"] and not worker["different"] for worker in found)
        idle = previous if not all(worker["changed"] for worker in found) else None
        if equal and idle and not same_tensors(checkpoint, idle):
            raise StaleWeightsError(
                f"{checkpoint} and {previous} differ in no tensor that can be compared with the engine's, and what it "
                "computes does not tell them apart: nothing proves that it took the new weights; set "
                "placement.sampler.mode to cold, or raise train.lr"
            )
        return equal


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
