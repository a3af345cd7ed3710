"""The sampler: one vLLM engine that rolls out, and evaluates after it took the new weights."""

from pathlib import Path
from typing import Any

from fire_opd.engines.execute import newest_checkpoint
from fire_opd.evaluation.sample import evaluate
from fire_opd.rollouts import Sampler, sample_round
from fire_opd.runtime.tick import Tick
from fire_opd.spec import ModelSpec
from fire_opd.stages import Job, Output
from fire_opd.storage import Run


class SamplerEngine:
    """Holds one model in vLLM: the student at some round, or a teacher for its baseline."""

    def __init__(self, run: Run, teacher: str = "") -> None:
        self.run = run
        self._loaded = None if teacher else newest_checkpoint(run.folder)
        model: ModelSpec = run.spec.teachers[teacher] if teacher else run.spec.student
        if self._loaded:
            model = model.model_copy(update={"path": str(self._loaded), "revision": None})
        spec, place = run.spec, run.spec.placement.sampler
        response = max(spec.sampling.max_tokens, spec.evaluation.max_tokens or 0)
        self._sampler = Sampler(
            model.path,
            model,
            device=spec.placement.device,
            max_model_len=spec.prompts.max_tokens + response,
            threads=place.threads,
            memory=place.memory,
            gpus=len(place.devices) if spec.placement.device == "cuda" else 1,
            sleeps=place.mode == "sleep",
        )

    def make(self, job: Job, output: Output, out: Path, tick: Tick) -> dict[str, Any]:
        """Sample a round's rollouts, or evaluate."""
        self._sampler.wake()
        prompts = job.directory("prompts")
        if job.stage.name == "rollout":
            self._take(job.directory("rounds/{m}/checkpoint"))
            return sample_round(self._sampler, job.run.spec, prompts, out, job.round, tick)
        if job.stage.name == "evaluate":
            self._take(job.directory("rounds/{n}/checkpoint"))
        return evaluate(self._sampler.generate, self._sampler.decode, job.run.spec, prompts, out, tick)

    def rest(self) -> None:
        """Weights to the host; the cache goes."""
        self._sampler.sleep()

    def _take(self, checkpoint: Path) -> None:
        """Hold exactly the weights of `checkpoint`, with proof."""
        if self._loaded != checkpoint:
            previous, self._loaded = self._loaded, None
            self._sampler.load(checkpoint, previous)
            self._loaded = checkpoint
