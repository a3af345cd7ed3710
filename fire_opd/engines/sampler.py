"""The sampler: one vLLM engine that rolls out, and evaluates after it took the new weights."""

from pathlib import Path
from typing import Any

from fire_opd.engines.execute import newest_checkpoint
from fire_opd.evaluation.sample import answer, evaluated, join_answers, write_answers
from fire_opd.head import student_targets
from fire_opd.models import shared_vocab
from fire_opd.prompts.stops import stop_tokens
from fire_opd.records import ROLLOUT, join_tables, write_table
from fire_opd.rollouts import Sampler, sample_rows, write_rollouts
from fire_opd.runtime.tick import Tick
from fire_opd.served import ServedSampler
from fire_opd.spec import ModelSpec
from fire_opd.stages import Job, Output
from fire_opd.storage import Run, check_base


class SamplerEngine:
    """Holds one model in vLLM: the student at some round, or a teacher for its baseline."""

    def __init__(self, run: Run, teacher: str = "") -> None:
        self.run, self._loaded = run, None
        if teacher in run.spec.placement.servers:
            ends = stop_tokens(run.spec.teachers[teacher], run.spec.sampling.stop_token_ids)
            self._sampler: Any = ServedSampler(run.spec, teacher, shared_vocab(run.spec), ends)
            return
        adapter = run.spec.student.adapter
        self._loaded = None if teacher else newest_checkpoint(run.folder)
        lora = (adapter.rank, student_targets(run.spec.student)) if adapter.rank and not teacher else None
        model: ModelSpec = run.spec.teachers[teacher] if teacher else run.spec.student
        ends = stop_tokens(model, run.spec.sampling.stop_token_ids)  # the same in every round
        if self._loaded and not lora:
            model = model.model_copy(update={"path": str(self._loaded), "revision": None})
        spec, place = run.spec, run.spec.placement.sampler
        response = max(spec.sampling.max_tokens, spec.evaluation.max_tokens or 0)
        self._sampler = Sampler(
            model.path,
            model,
            stop_token_ids=ends,
            vocab=shared_vocab(spec),
            device=spec.placement.device,
            max_model_len=spec.prompts.max_tokens + response,
            threads=place.threads,
            memory=place.memory,
            gpus=len(place.devices_of(0)) if spec.placement.device == "cuda" else 1,
            sleeps=place.mode == "sleep",
            lora=lora,
        )
        if self._loaded and lora:
            newest, self._loaded = self._loaded, None
            self._take(newest)

    def make(self, job: Job, output: Output, out: Path, tick: Tick) -> dict[str, Any]:
        """Sample a round's rollouts, or evaluate."""
        self._sampler.wake()
        make = self._roll_out if job.stage.name == "rollout" else self._evaluate
        return make(job, output, job.directory("prompts"), out, tick)

    def _roll_out(self, job: Job, output: Output, prompts: Path, out: Path, tick: Tick) -> dict[str, Any]:
        """Sample a round or a chunk of it, or join the chunks."""
        if job.chunks:
            table = join_tables([chunk.place(output) / "rollouts.parquet" for chunk in job.chunks], ROLLOUT)
        else:
            self._take(job.directory("rounds/{s}/checkpoint"))
            table = sample_rows(self._sampler, job.run.spec, prompts, job.round, job.rows, tick)
        if job.chunk is None:
            return write_rollouts(table, job.run.spec, prompts, out, job.round)
        write_table(out / "rollouts.parquet", table, ROLLOUT)
        return {}

    def _evaluate(self, job: Job, output: Output, prompts: Path, out: Path, tick: Tick) -> dict[str, Any]:
        """Answer held-out prompts, or a chunk of what is to be answered, or join the chunks."""
        spec = job.run.spec
        if job.chunks:
            answers = join_answers([chunk.place(output) for chunk in job.chunks])
        else:
            if job.stage.name == "evaluate":
                self._take(job.directory("rounds/{n}/checkpoint"))
            answers = answer(self._sampler.generate, self._sampler.decode, spec, prompts, tick, job.round, job.rows)
        write_answers(answers, out)
        return evaluated(answers, spec, prompts, job.round) if job.chunk is None else {}

    def rest(self) -> None:
        """Weights to the host; the cache goes."""
        self._sampler.sleep()

    def _take(self, checkpoint: Path) -> None:
        """Hold exactly the weights of `checkpoint`, with proof."""
        if self._loaded != checkpoint:
            check_base(checkpoint, self.run.spec.student, self.run.cache)
            previous, self._loaded = self._loaded, None
            self._sampler.load(checkpoint, previous)
            self._loaded = checkpoint
