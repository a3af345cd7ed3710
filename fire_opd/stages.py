"""The stages of a run: their names, order, inputs, outputs, and the spec fields that decide their result.

This table is the contract between the flow, the command line and dvc.yaml. A stage reads directories and writes
directories; nothing else passes between stages. `{n}` is the round, `{m}` the round before it, `{teacher}` a teacher.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import fsspec

from fire_opd.errors import PromptError
from fire_opd.spec import spec_values
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

    `revision` is raised by hand when the code changes the result. `params` are the spec fields that do.
    """

    name: str
    role: Role
    revision: int
    params: tuple[str, ...]
    outputs: tuple[Output, ...]


_PROMPT_RULES = tuple(
    f"prompts.{name}" for name in ("max_tokens", "too_long", "duplicates", "overlap", "template", "thinking")
)
_EVALUATION = tuple(
    f"evaluation.{name}" for name in ("grader", "answer_prefix", "k", "temperature", "greedy", "max_tokens", "seed")
)
_SAMPLED = ("sampling.max_tokens", "placement.device")

PREPARE = Stage(
    "prepare",
    "preparer",
    1,
    (*_PROMPT_RULES, "sampling.max_tokens", "teachers.*.domains"),
    (Output("prompts", "prompts", ("file:prompts.path", "file:evaluation.path", "model:student", "model:*")),),
)
INIT = Stage(
    "init",
    "trainer",
    1,
    ("seed", "student.dtype", "train.zero", "placement.trainer.devices", "placement.device"),
    (
        Output("trainer", "rounds/0/trainer", ("model:student",)),
        Output("checkpoint", "rounds/0/checkpoint", ("rounds/0/trainer",)),
    ),
)
BASELINE = Stage(
    "baseline",
    "sampler",
    1,
    (*_EVALUATION, *_SAMPLED, "teachers.*.dtype"),
    (Output("evaluation", "baseline/{teacher}", ("prompts", "model:{teacher}")),),
)
ROLLOUT = Stage(
    "rollout",
    "sampler",
    1,
    ("seed", "rounds.rollouts", "sampling", "student.dtype", "placement.device"),
    (Output("rollouts", "rounds/{n}/rollouts", ("prompts", "rounds/{m}/checkpoint")),),
)
SCORE = Stage(
    "score",
    "scorer",
    1,
    ("scoring", "student.dtype", "teachers.*.dtype", "placement.device"),
    (Output("scores", "rounds/{n}/scores", ("rounds/{n}/rollouts", "rounds/{m}/checkpoint", "model:*")),),
)
SELECT = Stage(
    "select",
    "local",
    1,
    ("filter", "weights", "loss.tis_cap", "sampling.truncated", "rounds.updates"),
    (Output("batch", "rounds/{n}/batch", ("rounds/{n}/rollouts", "rounds/{n}/scores")),),
)
TRAIN = Stage(
    "train",
    "trainer",
    1,
    (
        *("seed", "train", "loss", "rounds.updates", "total_updates"),
        *("student.dtype", "placement.device", "placement.trainer.devices"),
    ),
    (
        Output(
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
    1,
    (*_EVALUATION, *_SAMPLED, "student.dtype"),
    (Output("evaluation", "rounds/{n}/evaluation", ("prompts", "rounds/{n}/checkpoint")),),
)

START = (PREPARE, BASELINE, INIT)
ROUND = (ROLLOUT, SCORE, SELECT, TRAIN, EVALUATE)
STAGES = {stage.name: stage for stage in (*START, *ROUND)}


@dataclass(frozen=True)
class Job:
    """A stage of one run at one round (or of one teacher): the unit that is run, recorded and repeated."""

    run: Run
    stage: Stage
    round: int = 0
    teacher: str = ""

    @property
    def label(self) -> str:
        """Name for logs and the ledger."""
        return f"{self.stage.name}-{self.teacher}" if self.teacher else self.stage.name

    def directory(self, relative: str) -> Path:
        """A directory of the table above, for this job."""
        return self.run.path(relative.format(n=self.round, m=self.round - 1, teacher=self.teacher))

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
        return {
            "stage": self.stage.name,
            "revision": self.stage.revision,
            "round": self.round,
            "params": spec_values(self.run.spec, self.stage.params),
            "inputs": dict(pair for source in output.inputs for pair in self._digests(source)),
            "threads": self.threads,
        }

    def finished(self, output: Output) -> Manifest | None:
        """The manifest of `output` when it is there and up to date, else None."""
        directory = self.directory(output.directory)
        manifest = read_manifest(directory) or retired_manifest(directory)
        return manifest if manifest and manifest.identity() == self.identity(output) else None

    def up_to_date(self) -> bool:
        """Whether there is nothing to do."""
        return all(self.finished(output) for output in self.stage.outputs)

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
            return [(source, _file_digest(name, getattr(getattr(spec, part), field)))]
        if kind == "model":
            models = {"student": spec.student} if name == "student" else dict(sorted(spec.teachers.items()))
            if name == "{teacher}":
                models = {self.teacher: spec.teachers[self.teacher]}
            return [(f"model:{key}", model_digest(model, self.run.cache)) for key, model in models.items()]
        directory = self.directory(source)
        return [(source, directory_digest(directory))]


def _file_digest(field: str, path: str) -> str:
    try:
        with fsspec.open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError, ImportError) as error:
        raise PromptError(f"{field} {path}: cannot be read: {error}") from error
