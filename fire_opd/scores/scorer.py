"""The models that score: every teacher, and the student as it was when it sampled."""

from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from fire_opd.errors import ArtifactError
from fire_opd.head import Policy, Unadapted, add_adapter, check_policy, checkpoint_weights, collate, load_model
from fire_opd.head.adapter import held_adapter, read_adapter, take_adapter
from fire_opd.head.probes import noise_floor, prove_fresh, read_probes
from fire_opd.models import has_weights, shared_vocab
from fire_opd.runtime import failpoints
from fire_opd.runtime.tick import Tick
from fire_opd.served import ServedTeacher, prove
from fire_opd.spec import ModelSpec, RunSpec, StudentSpec
from fire_opd.storage import model_digest


class Scorer:
    """Teachers and student on one device, in inference only.

    Attributes:
        teachers: a policy for each name in the spec, or the server that has it.
        reference: the first student, where the method asks for it. If an adapter is trained, it is the student with
            its adapter off, and so is a teacher that is the same model.
        student: the policy whose weights `load_student` replaces.
        vocab: ids that student and teachers share.
    """

    def __init__(self, spec: RunSpec) -> None:
        self.spec = spec
        self.device = spec.placement.device
        self.vocab = shared_vocab(spec)
        self.student = self._load(spec.student)
        base = Unadapted(self.student) if spec.student.adapted else None
        self.teachers = {name: self._teacher(name, base) for name in spec.teachers}
        referred = "reference_logprobs" in spec.score_columns
        self.reference = (base or self._load(spec.student)) if referred else None

    def prove_servers(self, cache: Path, tick: Tick) -> None:
        """Prove that the servers hold the teachers.

        Args:
            cache: of model digests; what the servers must say is kept beside it.
            tick: called before each server.

        Raises:
            TeacherError: a server cannot be used, or computes something else.
        """
        served = [teacher for teacher in self.teachers.values() if isinstance(teacher, ServedTeacher)]
        for done, teacher in enumerate(served):
            tick(done, len(served))
            model = self.spec.teachers[teacher.name]
            exact = partial(self._exact, model) if has_weights(Path(model.path)) else None
            kept = cache.parent / f"served-{teacher.name}.json"
            prove(teacher, model.dtype, kept, model_digest(model, cache), exact)

    def _exact(self, model: ModelSpec, tokens: list[list[int]]) -> list[list[float]]:
        """What a model's own weights say, which are loaded for this alone, into host memory."""
        plain = model.model_copy(update={"attention": "auto"})  # its own may need a GPU
        policy = Policy(load_model(plain)).eval()
        check_policy(policy, model.path, model.dtype, self.vocab)
        return self._logprobs(policy, tokens)

    def load_student(self, checkpoint: Path, previous: Path | None) -> None:
        """Replace the student's weights in place, and prove it.

        Args:
            checkpoint: directory that training wrote.
            previous: directory whose weights were held before; None when unknown.

        Raises:
            ArtifactError: the checkpoint does not fit the student.
            StaleWeightsError: the student still computes with other weights.
        """
        if not failpoints.skipped(f"scorer.reload.{checkpoint.parent.name}"):
            self._take(checkpoint)
        probes = read_probes(checkpoint)
        if probes is None:
            raise ArtifactError(f"{checkpoint}: no probes.json; the checkpoint was not written by training")
        floor = noise_floor(self.spec.student.dtype)
        old = read_probes(previous) if previous else None
        prove_fresh(self._logprobs(self.student, probes.tokens), probes, old, floor, lambda: self._equals(checkpoint))

    def _teacher(self, name: str, base: Policy | None) -> Policy | ServedTeacher:
        if name in self.spec.placement.servers:
            return ServedTeacher(self.spec, name, self.vocab)
        model = self.spec.teachers[name]
        return base if base and _same(model, self.spec.student) else self._load(model)

    def _load(self, model: ModelSpec) -> Policy:
        loaded = load_model(model, self.device)
        if isinstance(model, StudentSpec) and model.adapted:
            add_adapter(loaded, model.adapter)
        policy = Policy(loaded).eval()
        check_policy(policy, model.path, model.dtype, self.vocab)
        return policy

    def sleep(self) -> None:
        """Move the models to host memory."""
        self._move("cpu")

    def wake(self) -> None:
        """Take the models back."""
        self._move(self.device)

    def _move(self, device: str) -> None:
        for policy in (*self.teachers.values(), self.student, self.reference):
            if isinstance(policy, Policy):
                policy.to(device)
        if self.device == "cuda":
            torch.cuda.empty_cache()

    def _take(self, checkpoint: Path) -> None:
        """Copy the checkpoint's weights into the student; nothing is copied unless all of them fit."""
        if self.spec.student.adapted:
            take_adapter(self.student.model, self._weights(checkpoint))
        else:
            self.student.model.load_state_dict(self._weights(checkpoint))

    @torch.no_grad()
    def _logprobs(self, policy: Policy, tokens: list[list[int]]) -> list[list[float]]:
        batch = collate([(row[:1], row[1:]) for row in tokens]).to(next(policy.parameters()).device)
        logprob_N, _ = policy(batch, vocab=self.vocab)
        return [part.tolist() for part in logprob_N.float().cpu().split(batch.lengths)]

    def _equals(self, checkpoint: Path) -> bool:
        model = self.student.model
        held = held_adapter(model) if self.spec.student.adapted else model.state_dict()
        return all(torch.equal(held[name].cpu(), value) for name, value in self._weights(checkpoint).items())

    def _weights(self, checkpoint: Path) -> dict[str, Tensor]:
        """What a checkpoint has of the student: all its weights, or its adapter's."""
        if self.spec.student.adapted:
            return read_adapter(self.student.model, checkpoint)
        return checkpoint_weights(self.spec.student, checkpoint, self.student.model)


def _same(one: ModelSpec, other: ModelSpec) -> bool:
    """Whether two models are one: files, precision and attention."""
    return all(getattr(one, field) == getattr(other, field) for field in ModelSpec.model_fields)
