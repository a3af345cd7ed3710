"""The models that score: every teacher, and the student as it was when it sampled."""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from fire_opd.errors import ArtifactError
from fire_opd.head import Policy, collate, load_model
from fire_opd.head.probes import noise_floor, prove_fresh, read_probes
from fire_opd.models import vocab_size
from fire_opd.runtime import failpoints
from fire_opd.spec import RunSpec


class Scorer:
    """Teachers and student on one device, in inference only.

    Attributes:
        teachers: a policy for each name in the spec.
        student: the policy whose weights `load_student` replaces.
        vocab: real size of the shared vocabulary.
    """

    def __init__(self, spec: RunSpec) -> None:
        self.spec = spec
        self.device = spec.placement.device
        self.vocab = vocab_size(spec.student)
        self.teachers = {n: Policy(load_model(t, self.device)).eval() for n, t in spec.teachers.items()}
        self.student = Policy(load_model(spec.student, self.device)).eval()

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
        prove_fresh(self._probe(probes.tokens), probes, old, floor, lambda: self._equals(checkpoint))

    def sleep(self) -> None:
        """Move the models to host memory."""
        self._move("cpu")

    def wake(self) -> None:
        """Take the models back."""
        self._move(self.device)

    def _move(self, device: str) -> None:
        for policy in (*self.teachers.values(), self.student):
            policy.to(device)
        if self.device == "cuda":
            torch.cuda.empty_cache()

    def _take(self, checkpoint: Path) -> None:
        """Copy the checkpoint's weights into the student; nothing is copied unless all of them fit."""
        weights, state = _read_weights(checkpoint), self.student.model.state_dict()
        tied = set(getattr(self.student.model, "all_tied_weights_keys", None) or ())
        missing = [name for name in state if name not in weights and name not in tied]
        unexpected = [name for name in weights if name not in state]
        shapes = {name: (list(weights[name].shape), list(state[name].shape)) for name in weights if name in state}
        differ = [
            f"{name} is {found}, not {expected}" for name, (found, expected) in shapes.items() if found != expected
        ]
        if missing or unexpected or differ:
            raise ArtifactError(
                f"{checkpoint}: does not fit the student: missing {missing[:5]}, unexpected {unexpected[:5]}, "
                f"of another shape {differ[:5]}; was it written by a run with another student?"
            )
        self.student.model.load_state_dict(weights, strict=False)

    @torch.no_grad()
    def _probe(self, tokens: list[list[int]]) -> list[list[float]]:
        batch = collate([(row[:1], row[1:]) for row in tokens]).to(self.device)
        logprob_N, _ = self.student(batch, vocab=self.vocab)
        return [part.tolist() for part in logprob_N.float().cpu().split(batch.lengths)]

    def _equals(self, checkpoint: Path) -> bool:
        state = self.student.model.state_dict()
        return all(
            torch.equal(state[name].cpu(), value.to(state[name].dtype))
            for name, value in _read_weights(checkpoint).items()
        )


def _read_weights(checkpoint: Path) -> dict[str, Tensor]:
    return {name: value for file in sorted(checkpoint.glob("*.safetensors")) for name, value in load_file(file).items()}
