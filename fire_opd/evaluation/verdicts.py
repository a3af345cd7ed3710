"""Is each rollout of a round right? For methods that learn from it."""

from pathlib import Path

from fire_opd.errors import ArtifactError
from fire_opd.evaluation.graders import grade
from fire_opd.records import PROMPT, ROLLOUT, read_table
from fire_opd.runtime.tick import Tick
from fire_opd.spec import RunSpec


def grade_rollouts(prompts: Path, rollouts: Path, spec: RunSpec, tick: Tick) -> list[bool]:
    """The grader's verdict on each rollout, in their order; one that did not end is wrong, as in the evaluation.

    Args:
        prompts: directory with prompts.parquet, whose answers are the references.
        rollouts: directory with rollouts.parquet.
        spec: `evaluation.grader` and `evaluation.answer_prefix`.
        tick: progress; a hostile response takes seconds.

    Raises:
        ArtifactError: a prompt has no answer.
    """
    asked = read_table(prompts / "prompts.parquet", PROMPT, ("prompt", "answer"))
    answers = dict(zip(asked["prompt"].to_pylist(), asked["answer"].to_pylist(), strict=True))
    verdicts: list[bool] = []
    rows = read_table(rollouts / "rollouts.parquet", ROLLOUT, ("prompt", "text", "finish_reason")).to_pylist()
    for row in rows:
        tick(len(verdicts), len(rows))
        if not (answer := (answers.get(row["prompt"]) or "").strip()):
            raise ArtifactError(
                f"{prompts}: prompt {row['prompt']} has no answer, and method.name = {spec.method.name} grades "
                "rollouts; give every row of prompts.path an answer"
            )
        verdicts.append(row["finish_reason"] == "stop" and grade(row["text"], answer, spec.evaluation).correct)
    return verdicts
