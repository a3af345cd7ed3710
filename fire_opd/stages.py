"""The stages of a run: their names, order, inputs, outputs, and the spec fields that decide their result.

This table is the contract between the flow, the command line and dvc.yaml. A stage reads directories and writes
directories; nothing else passes between stages. `{n}` is the round, `{m}` the round before it, `{s}` the round whose
student samples it (`{m}`, but with `rounds.staleness`), `{teacher}` a teacher.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from fire_opd.models import has_weights
from fire_opd.prompts.files import set_digest
from fire_opd.spec import RunSpec, spec_values
from fire_opd.storage import Manifest, Run, directory_digest, model_digest, read_manifest, retired_manifest

Role = Literal["preparer", "sampler", "scorer", "trainer", "local"]


@dataclass(frozen=True)
class Output:
    """A directory that a stage commits, and what it is made from.

    An input is a stage directory of the run, `model:student`, `model:{teacher}`, `model:*` (all teachers) or
    `file:<spec field>` (a prompt set).
    """

    name: str
    directory: str
    inputs: tuple[str, ...]


@dataclass(frozen=True)
class Stage:
    """One arrow of the pipeline.

    `revision` is raised by hand when the code changes the result. `params` are the spec fields that do; of a part of
    the spec only those, since a change of any other would throw the stage's results away. `scratch` is made before the
    outputs, in the same pass, for methods that compare whole distributions: training needs it, it can be made again,
    and it is neither recorded nor kept.
    """

    name: str
    role: Role
    revision: int
    params: tuple[str, ...]
    outputs: tuple[Output, ...]
    scratch: tuple[Output, ...] = ()


_PROMPT_RULES = tuple(
    f"prompts.{name}"
    for name in (
        *("columns", "system", "suffix", "template", "thinking", "date"),
        *("max_tokens", "too_long", "duplicates", "overlap"),
    )
)
_EVALUATION = tuple(
    f"evaluation.{name}" for name in ("grader", "answer_prefix", "k", "temperature", "greedy", "max_tokens", "seed")
)
# In a manifest only where set, so that results from before them stay valid.
_SINCE = ("rounds.chunk", "served", "written_states", "counted_rounds")
_SAMPLED = ("sampling.max_tokens", "sampling.stop_token_ids", "placement.device")

PREPARE = Stage(
    "prepare",
    "preparer",
    2,
    (*_PROMPT_RULES, "evaluation.columns", *_SAMPLED[:2], "teachers.*.domains", "evaluation.graded"),
    (Output("prompts", "prompts", ("file:prompts.path", "file:evaluation.path", "model:student", "model:*")),),
)
INIT = Stage(
    "init",
    "trainer",
    3,
    (
        *("seed", "student.dtype", "student.attention", "student.adapter", "train.zero", "train.packing"),
        *("placement.trainer.devices", "placement.device"),
    ),
    (
        Output("trainer", "rounds/0/trainer", ("model:student",)),
        Output("checkpoint", "rounds/0/checkpoint", ("rounds/0/trainer",)),
    ),
)
BASELINE = Stage(
    "baseline",
    "sampler",
    2,
    (*_EVALUATION, *_SAMPLED, "teachers.*.dtype"),
    (Output("evaluation", "baseline/{teacher}", ("prompts", "model:{teacher}")),),
)
ROLLOUT = Stage(
    "rollout",
    "sampler",
    2,
    (
        *("seed", "rounds.rollouts", "sampling.n", "sampling.temperature", "sampling.top_p", *_SAMPLED),
        *("student.dtype", "rounds.chunk"),  # not sampling.truncated and looping, which selection reads
    ),
    (Output("rollouts", "rounds/{n}/rollouts", ("prompts", "rounds/{s}/checkpoint")),),
)
DISTRIBUTION = Output("distribution", "scratch/{n}/distribution", ("rounds/{n}/rollouts", "model:*"))
_SCORED = (
    *("scoring.token_budget", "scoring.head_chunk", "student.dtype", "student.attention"),
    *("teachers.*.dtype", "teachers.*.attention", "placement.device", "served"),
)
SCORE = Stage(
    "score",
    "scorer",
    4,
    (*_SCORED, "score_columns", "grading", "rounds.chunk"),
    (Output("scores", "rounds/{n}/scores", ("prompts", "rounds/{n}/rollouts", "rounds/{s}/checkpoint", "model:*")),),
    (DISTRIBUTION,),
)
SELECT = Stage(
    "select",
    "local",
    3,
    (
        *("method", "filter", "weights", "loss.tis_cap", "loss.max_gap", "loss.first_tokens", "loss.reference_kl"),
        *("sampling.truncated", "sampling.looping", "rounds.updates", "rules.of_select", "counted_rounds"),
    ),
    (Output("batch", "rounds/{n}/batch", ("rounds/{n}/rollouts", "rounds/{n}/scores")),),
)
TRAIN = Stage(
    "train",
    "trainer",
    4,
    (
        *("seed", "method", "train", "loss", "rounds.updates", "total_updates", "rules.of_train"),
        *("student.dtype", "student.attention", "placement.device", "placement.trainer.devices", "written_states"),
    ),
    (
        Output(  # of a round whose state is not written it has only the manifest, which says what the state is made of
            "trainer",
            "rounds/{n}/trainer",
            ("rounds/{n}/rollouts", "rounds/{n}/scores", "rounds/{n}/batch", "rounds/{m}/trainer"),
        ),
        Output("checkpoint", "rounds/{n}/checkpoint", ("rounds/{n}/trainer",)),
    ),
)
EVALUATE = Stage(
    "evaluate",
    "sampler",
    2,
    (*_EVALUATION, *_SAMPLED, "student.dtype", "rounds.chunk"),
    (Output("evaluation", "rounds/{n}/evaluation", ("prompts", "rounds/{n}/checkpoint")),),
)
APPRAISE = Stage(
    "appraise",
    "scorer",
    4,
    _SCORED,
    (Output("appraisal", "rounds/{n}/appraisal", ("rounds/{n}/evaluation", "rounds/{n}/checkpoint", "model:*")),),
)

START = (PREPARE, BASELINE, INIT)
ROUND = (ROLLOUT, SCORE, SELECT, TRAIN, EVALUATE)
UNGRADED = (APPRAISE,)  # what a round has besides, round 0 too, where `evaluation.grader` is none
STAGES = {stage.name: stage for stage in (*START, *ROUND, *UNGRADED)}


def judging(spec: RunSpec, round: int) -> tuple[Stage, ...]:
    """What says how good the student of a round is: nothing between the rounds of `evaluation.every`."""
    if spec.evaluated_at(round) < round:
        return ()
    return (EVALUATE, *(() if spec.evaluation.graded else UNGRADED))


def round_stages(spec: RunSpec, round: int) -> tuple[Stage, ...]:
    """What is done in a round, in order; round 0 only judges the student before training."""
    return (*(ROUND[:-1] if round else ()), *judging(spec, round))


def last_directory(spec: RunSpec, round: int) -> str:
    """The directory that a round writes last: a round is complete when it is there."""
    return round_stages(spec, round)[-1].outputs[-1].directory.format(n=round)


@dataclass(frozen=True)
class Job:
    """A stage of one run at one round (or of one teacher): the unit that is run, recorded and repeated.

    Where `rounds.chunk` cuts the round, and the stage reads that field, the job has `chunks`: jobs that make the same
    outputs for some rows of the stage's table. The job itself then only joins what they made.
    """

    run: Run
    stage: Stage
    round: int = 0
    teacher: str = ""
    chunk: int | None = None

    @property
    def label(self) -> str:
        """Name for logs and the ledger."""
        return f"{self.stage.name}-{self.teacher}" if self.teacher else self.stage.name

    def directory(self, relative: str) -> Path:
        """A directory of the table above, for this job."""
        student = self.run.spec.rounds.student_of(self.round)
        return self.run.path(relative.format(n=self.round, m=self.round - 1, s=student, teacher=self.teacher))

    @property
    def chunks(self) -> "list[Job]":
        """The chunks of this job, in the order of their rows; none where nothing cuts it."""
        rounds = self.run.spec.rounds
        if rounds.chunk is None or self.chunk is not None or "rounds.chunk" not in self.stage.params:
            return []
        return [replace(self, chunk=number) for number in range(-(-self.size // rounds.chunk))]

    @property
    def size(self) -> int:
        """Rows of the table that the stage makes: rollouts, or answers to held-out prompts (0: not prepared yet)."""
        if self.stage not in (BASELINE, EVALUATE):
            return self.run.spec.rounds.rollouts
        import pyarrow.parquet as pq  # which takes a while, and most who ask for stages need none of it

        prompts = self.run.path("prompts/evaluation.parquet")
        return self.run.spec.evaluation.answers * pq.read_metadata(prompts).num_rows if prompts.is_file() else 0

    @property
    def rows(self) -> slice:
        """Which rows of the stage's table the job makes: all, or those of its chunk."""
        size, chunk = self.size, self.run.spec.rounds.chunk
        if self.chunk is None or chunk is None:
            return slice(0, size)
        return slice(self.chunk * chunk, min((self.chunk + 1) * chunk, size))

    def place(self, output: Output) -> Path:
        """The directory that the job commits as `output`; a chunk's goes with the scratch when the round is trained."""
        if self.chunk is None:
            return self.directory(output.directory)
        return self.directory("scratch/{n}") / self.stage.name / f"{output.name}-{self.chunk}"

    @property
    def since_state(self) -> "list[Job]":
        """Of a training job: the training of each round since the trainer state that was written last, its own too.

        All of them are done by an engine that starts with this job; one that holds the state before it does the last.
        """
        written = self.run.spec.state_at(self.round - 1)
        return [replace(self, round=n) for n in range(written + 1, self.round + 1)]

    @property
    def writes_state(self) -> bool:
        """Whether the trainer state is written after this job's round."""
        return self.run.spec.state_at(self.round) == self.round

    @property
    def threads(self) -> int:
        """CPU threads of the process that runs it."""
        if self.stage.role in ("local", "preparer"):
            return 1
        threads: int = getattr(self.run.spec.placement, self.stage.role).threads
        return threads

    def identity(self, output: Output) -> dict[str, Any]:
        """What the manifest of `output` must say to be the result of this job.

        Raises:
            ArtifactError: an input is missing or incomplete.
        """
        params = spec_values(self.run.spec, self.stage.params)
        params = {field: value for field, value in params.items() if value is not None or field not in _SINCE}
        if self.chunk is not None:
            params["chunk"] = self.chunk
        return {
            "stage": self.stage.name,
            "revision": self.stage.revision,
            "round": self.round,
            "params": params,
            "inputs": dict(pair for source in output.inputs for pair in self._digests(source)),
            "threads": self.threads,
        }

    def finished(self, output: Output) -> Manifest | None:
        """The manifest of `output` when it is there and up to date, else None."""
        directory = self.place(output)
        manifest = read_manifest(directory) or retired_manifest(directory)
        return manifest if manifest and manifest.identity() == self.identity(output) else None

    def up_to_date(self) -> bool:
        """Whether there is nothing to do."""
        return all(self.finished(output) for output in self.stage.outputs)

    @property
    def identified(self) -> bool:
        """Whether the inputs name all that decides the result; not where only a server has a teacher's weights."""
        teachers = {self.teacher} if self.stage is BASELINE else {*self.run.spec.teachers}
        folders = [Path(self.run.spec.teachers[n].path) for n in teachers & {*self.run.spec.placement.servers}]
        asks = self.stage in (BASELINE, SCORE, APPRAISE)
        return not asks or not any(folder.is_dir() and not has_weights(folder) for folder in folders)

    @property
    def scratch(self) -> tuple[Output, ...]:
        """What the stage makes for training only, where the method of the run needs it."""
        return self.stage.scratch if self.run.spec.method.divergence else ()

    def metrics(self) -> dict[str, Any]:
        """Metrics of the finished job, of all its outputs."""
        found: dict[str, Any] = {}
        for output in self.stage.outputs:
            directory = self.directory(output.directory)
            manifest = read_manifest(directory) or retired_manifest(directory)
            found |= manifest.metrics if manifest else {}
        return found

    def _digests(self, source: str) -> list[tuple[str, str]]:
        kind, _, name = source.partition(":")
        spec = self.run.spec
        if kind == "file":
            part, field = name.split(".")
            return [(source, set_digest(getattr(getattr(spec, part), field)))]
        if kind == "model":
            models = {"student": spec.student} if name == "student" else dict(sorted(spec.teachers.items()))
            if name == "{teacher}":
                models = {self.teacher: spec.teachers[self.teacher]}
            return [(f"model:{key}", model_digest(model, self.run.cache)) for key, model in models.items()]
        digest = directory_digest(self.directory(source))
        # Without staleness the two are the same, and manifests from before there was any say `{m}`.
        return [(source if spec.rounds.staleness else source.replace("{s}", "{m}"), digest)]


def jobs_of(run: Run, number: int) -> Iterator[Job]:
    """What is done in a round; before the first one, for round 0, also what every run begins with."""
    for stage in (*(START if number == 0 else ()), *round_stages(run.spec, number)):
        for teacher in run.spec.teachers if stage is BASELINE else ("",):
            yield Job(run, stage, number, teacher)
