"""What the browser of trajectories shows: tokens with their numbers, and what selection made of them."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from fire_opd.records import BATCH, ROLLOUT, SCORE, read_table
from fire_opd.stages import ROUND, Job
from fire_opd.storage import Run
from fire_opd.storage.manifest import MANIFEST

SHOWN_TOKENS = 150_000
NUMBERS = {  # of each token: name on the page, and its column
    "weight": "weights",
    "advantage": "advantages",
    "divergence weight": "divergence_weights",
    "teacher log-prob": "teacher_logprobs",
    "student log-prob": "student_logprobs",
    "teacher entropy": "teacher_entropies",
    "student entropy": "student_entropies",
}
_ABOUT = ("domain", "teacher", "prompt_ids", "response_ids", "finish_reason")
_SIGNIFICANT = 4


def trajectories(run: Run) -> dict[str, Any]:
    """Trajectories of all trained rounds, evenly, up to `SHOWN_TOKENS` tokens.

    Returns:
        `numbers`, their names; `rows`, one a trajectory, with `tokens` as pieces of text and `values` by number.
    """
    rounds = [n for n in range(1, run.spec.rounds.count + 1) if _is_trained(run, n)]
    show = _pieces(run)
    rows = [row for n in rounds for row in _round(run, n, SHOWN_TOKENS // len(rounds), show)]
    return {"numbers": list(NUMBERS), "rows": rows}


def _is_trained(run: Run, number: int) -> bool:
    stages = {stage.name: stage for stage in ROUND}
    select = stages["select"]
    return (Job(run, select, number).directory(select.outputs[-1].directory) / MANIFEST).is_file()


def _round(run: Run, number: int, budget: int, show: Callable[[int], str]) -> Iterator[dict[str, Any]]:
    folder = run.path(f"rounds/{number}")
    rollouts = read_table(folder / "rollouts" / "rollouts.parquet", ROLLOUT, _ABOUT)
    scores = read_table(folder / "scores" / "scores.parquet", SCORE, [c for c in NUMBERS.values() if c in SCORE.names])
    batch = read_table(folder / "batch" / "batch.parquet", BATCH, ["kept", "reason", "filter_score", "threshold"])
    weights = read_table(folder / "batch" / "batch.parquet", BATCH, [c for c in NUMBERS.values() if c in BATCH.names])
    lengths = np.array([len(ids) for ids in rollouts["response_ids"]])
    for place in _evenly(lengths, budget):
        about, chosen = _at(rollouts, place), _at(batch, place)
        columns = {**_at(scores, place), **_at(weights, place)}
        yield {
            "round": number,
            "prompt": "".join(map(show, about["prompt_ids"])),
            "domain": about["domain"],
            "teacher": about["teacher"],
            "finish": about["finish_reason"],
            **{name: _short(value) for name, value in chosen.items()},
            "tokens": [show(token) for token in about["response_ids"]],
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


def _pieces(run: Run) -> Callable[[int], str]:
    """The text of one token; a part of a character shows as such. Its number where no tokenizer is at hand."""
    from tokenizers import Tokenizer

    for folder in (run.path("rounds/0/checkpoint"), run.spec.student.path):
        try:
            tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json")
        except Exception:  # the library raises nothing more special
            continue
        known: dict[int, str] = {}

        def show(token: int, tokenizer: Any = tokenizer, known: dict[int, str] = known) -> str:
            if token not in known:
                known[token] = tokenizer.decode([token], skip_special_tokens=False)
            return known[token]

        return show
    return lambda token: f"{token} "
