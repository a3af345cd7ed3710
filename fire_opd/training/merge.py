"""The student of a round as a model that anybody can load, also where the round's checkpoint is an adapter."""

from pathlib import Path

from fire_opd.errors import ArtifactError
from fire_opd.head import Policy, check_policy
from fire_opd.head.adapter import merged
from fire_opd.models import shared_vocab
from fire_opd.storage import Run, check_base, commit_stage, directory_digest, read_manifest
from fire_opd.training.checkpoint import write_model

_REVISION = 1


def whole_model(run: Run, number: int) -> Path:
    """The checkpoint of a round, or RUN/merged/<round> with its adapter merged into the base; made once.

    Raises:
        ArtifactError: the round has no complete checkpoint, or its base has changed.
    """
    checkpoint, student = run.path(f"rounds/{number}/checkpoint"), run.spec.student
    if not read_manifest(checkpoint):
        raise ArtifactError(f"{checkpoint}: no complete checkpoint; train round {number} first")
    if not student.adapted:
        return checkpoint
    check_base(checkpoint, student, run.cache)
    out, inputs = run.path(f"merged/{number}"), {f"rounds/{number}/checkpoint": directory_digest(checkpoint)}
    found = read_manifest(out)
    if not found or (found.revision, found.inputs) != (_REVISION, inputs):
        with commit_stage(
            out, stage="merge", revision=_REVISION, round=number, params={}, inputs=inputs, threads=1
        ) as writer:
            whole = merged(student, checkpoint)
            check_policy(Policy(whole).eval(), str(checkpoint), student.dtype, shared_vocab(run.spec))
            write_model(whole, student, writer.path)
    return out
