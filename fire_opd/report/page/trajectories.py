"""What the browser of trajectories shows: tokens with their numbers, and what selection made of them."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from fire_opd.fire.loops import loops
from fire_opd.fire.ragged import flatten
from fire_opd.records import BATCH, ROLLOUT, SCORE, read_table
from fire_opd.report.page.texts import Texts
from fire_opd.stages import ROUND, Job
from fire_opd.storage import Run
from fire_opd.storage.manifest import MANIFEST

SHOWN_TOKENS = 150_000
_DIVERGENCE = "k1"  # log πS − log πT of the sampled token, an estimate of the reverse KL at its place
NUMBERS = {  # of each token: name on the page, and its column
    "weight": "weights",
    "advantage": "advantages",
    "divergence weight": "divergence_weights",
    "teacher log-prob": "teacher_logprobs",
    "student log-prob": "student_logprobs",
    "teacher entropy": "teacher_entropies",
    "student entropy": "student_entropies",
    "divergence": _DIVERGENCE,
}
_VERDICTS = {True: "right", False: "wrong", None: "not graded"}
_ENDED = {"stop": "by itself", "length": "at max_tokens"}
_ABOUT = ("domain", "teacher", "prompt_ids", "response_ids", "finish_reason")
_SIGNIFICANT = 4


def trajectories(run: Run, show: Texts) -> dict[str, Any]:
    """Trajectories of all trained rounds, evenly, up to `SHOWN_TOKENS` tokens.

    Returns:
        `numbers`, their names; `rows`, one a trajectory, with `tokens` as pieces of text and `values` by number.
    """
    rounds = [n for n in range(1, run.spec.rounds.count + 1) if _is_trained(run, n)]
    rows = [row for n in rounds for row in _round(run, n, SHOWN_TOKENS // len(rounds), show)]
    return {"numbers": list(NUMBERS), "rows": rows}


def _is_trained(run: Run, number: int) -> bool:
    stages = {stage.name: stage for stage in ROUND}
    select = stages["select"]
    return (Job(run, select, number).directory(select.outputs[-1].directory) / MANIFEST).is_file()


def _round(run: Run, number: int, budget: int, show: Texts) -> Iterator[dict[str, Any]]:
    folder = run.path(f"rounds/{number}")
    rollouts = read_table(folder / "rollouts" / "rollouts.parquet", ROLLOUT, _ABOUT)
    kinds = ["correct", *(c for c in NUMBERS.values() if c in SCORE.names)]
    scores = read_table(folder / "scores" / "scores.parquet", SCORE, kinds)
    batch = read_table(folder / "batch" / "batch.parquet", BATCH, ["kept", "reason", "filter_score", "threshold"])
    weights = read_table(folder / "batch" / "batch.parquet", BATCH, [c for c in NUMBERS.values() if c in BATCH.names])
    tokens_T, offsets = flatten(rollouts["response_ids"])
    looping = loops(tokens_T, offsets)
    for place in _evenly(np.diff(offsets), budget):
        about, chosen = _at(rollouts, place), _at(batch, place)
        columns = {**_at(scores, place), **_at(weights, place)}
        student, teacher = (columns[f"{model}_logprobs"] or () for model in ("student", "teacher"))
        columns[_DIVERGENCE] = [float(s - t) for s, t in zip(student, teacher, strict=True)]
        prompt, tokens = show(about["prompt_ids"], about["response_ids"])
        yield {
            "round": number,
            "prompt": prompt,
            "domain": about["domain"],
            "teacher": about["teacher"],
            "verdict": _VERDICTS[columns["correct"]],
            "ended": "in a loop" if looping[place] else _ENDED.get(about["finish_reason"], about["finish_reason"]),
            **{name: _short(value) for name, value in chosen.items()},
            "tokens": tokens,
            "values": [[_short(value) for value in columns[name] or ()] for name in NUMBERS.values()],
        }


def _evenly(length_B: np.ndarray[Any, Any], budget: int) -> list[int]:
    """Places of as many trajectories as the budget of tokens allows, spread over the round."""
    total = int(length_B.sum())
    if total <= budget:
        return list(range(len(length_B)))
    count = max(1, int(len(length_B) * budget / total))
    return sorted(set(np.linspace(0, len(length_B) - 1, count).astype(int).tolist()))


def _at(table: pa.Table, place: int) -> dict[str, Any]:
    row: dict[str, Any] = table.slice(place, 1).to_pylist()[0]
    return row


def _short(value: Any) -> Any:
    """A number with four significant digits; JSON has none for what is not finite."""
    if not isinstance(value, float):
        return value
    return float(f"{value:.{_SIGNIFICANT}g}") if np.isfinite(value) else None
