"""Forward passes over a round: rows of a table in micro-batches that depend on the lengths alone.

Equal rollouts so give equal bytes in any process, new or resident.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from fire_opd.errors import ArtifactError, PreflightError
from fire_opd.fire.ragged import Offsets, flatten
from fire_opd.head import Policy, collate, plan
from fire_opd.records import ROLLOUT, read_table
from fire_opd.runtime.tick import Tick
from fire_opd.scores.scorer import Scorer
from fire_opd.served import ServedTeacher

Values = NDArray[np.float32]  # one number a response token, rows laid end to end
Tokens = Mapping[str, tuple[NDArray[Any], Offsets]]
IDS = ("round", "prompt", "sample", "teacher")
_LISTS = ("prompt_ids", "response_ids", "engine_logprobs")


def read_round(rollouts: Path, scorer: Scorer, rows: slice) -> tuple[pa.Table, Tokens, NDArray[Any]]:
    """These rows of a round's table, their token lists laid end to end, and the teacher of each."""
    table = read_table(rollouts / "rollouts.parquet", ROLLOUT, (*IDS, *_LISTS))[rows]
    tokens = {name: flatten(table[name]) for name in _LISTS}
    names = np.array(table["teacher"].to_pylist(), dtype=object)
    _check_teachers(rollouts, names, scorer)
    _check_tokens(rollouts, tokens["response_ids"][0], scorer.vocab)
    return table, tokens, names


def progress(tick: Tick, total: int) -> Callable[[int], None]:
    """Called with rows that are done, ticks with their sum."""
    done = 0

    def advance(rows: int) -> None:
        nonlocal done
        done += rows
        tick(done, total)

    tick(0, total)
    return advance


@torch.no_grad()
def forward(
    scorer: Scorer,
    policy: Policy | ServedTeacher,
    tokens: Tokens,
    rows: NDArray[np.int64],
    into: tuple[Values, ...],
    advance: Callable[[int], None],
    *,
    keep: Callable[[list[int], Tensor], None] = lambda rows, hidden: None,
    options: Callable[[list[int]], dict[str, Any]] = lambda rows: {},
) -> None:
    """Write log-probs and entropies of the response tokens of `rows` to their places.

    `keep` gets the rows of each micro-batch, and the hidden states that predict their response tokens; from a server,
    the log-probs of all tokens there. With `options` of the head for the rows of a micro-batch, a divergence goes into
    a third column.
    """
    if isinstance(policy, ServedTeacher):
        _ask(policy, tokens, rows, into, advance, keep)
        return
    scoring = scorer.spec.scoring
    (prompt_T, prompts), (response_T, responses) = tokens["prompt_ids"], tokens["response_ids"]
    for group in plan((np.diff(prompts) + np.diff(responses))[rows].tolist(), scoring.token_budget):
        parts = [(slice(*prompts[row : row + 2]), slice(*responses[row : row + 2])) for row in rows[group]]
        batch = collate([(prompt_T[prompt].tolist(), response_T[response].tolist()) for prompt, response in parts])
        batch = batch.to(scorer.device)
        hidden_ND = policy.hidden(batch)
        more = options(rows[group].tolist())
        values = policy.values(hidden_ND, batch.targets_N, chunk=scoring.head_chunk, vocab=scorer.vocab, **more)
        keep(rows[group].tolist(), hidden_ND)
        for column, value_N in zip(into, values, strict=True):
            split = torch.split(value_N.float().cpu(), batch.lengths)
            for (_, response), value in zip(parts, split, strict=True):
                column[response] = value.numpy()
        advance(len(group))


def _ask(
    teacher: ServedTeacher,
    tokens: Tokens,
    rows: NDArray[np.int64],
    into: tuple[Values, ...],
    advance: Callable[[int], None],
    keep: Callable[[list[int], Tensor], None],
) -> None:
    """The same by a server, in requests of as many rows as it is asked for at a time."""
    (prompt_T, prompts), (response_T, responses) = tokens["prompt_ids"], tokens["response_ids"]
    for begin in range(0, len(rows), teacher.batch):
        group = rows[begin : begin + teacher.batch].tolist()
        filled = [row for row in group if responses[row] < responses[row + 1]]  # an empty response has no scores
        parts = [(slice(*prompts[row : row + 2]), slice(*responses[row : row + 2])) for row in filled]
        sequences = [(prompt_T[prompt].tolist(), response_T[response].tolist()) for prompt, response in parts]
        for row, (_, response), found in zip(filled, parts, teacher.score(sequences, filled), strict=True):
            into[0][response] = found.logprobs_T
            into[1][response] = found.entropies_T
            if found.distribution_TV is not None:
                keep([row], torch.from_numpy(found.distribution_TV))
        advance(len(group))


def _check_teachers(rollouts: Path, names: NDArray[Any], scorer: Scorer) -> None:
    unknown = {str(name) for name in names} - set(scorer.teachers)
    if unknown:
        raise PreflightError(f"{rollouts}: no teacher {sorted(unknown)}; the spec has {sorted(scorer.teachers)}")


def _check_tokens(rollouts: Path, response_T: NDArray[Any], vocab: int) -> None:
    """A padded row of the output matrix can be sampled, but no model gives it a meaning."""
    if len(response_T) and not 0 <= response_T.min() <= response_T.max() < vocab:
        bad = sorted({int(token) for token in response_T if not 0 <= token < vocab})
        raise ArtifactError(
            f"{rollouts}: responses hold token(s) {bad[:5]}, but student and teachers share the ids below {vocab}; the "
            "engine sampled from rows that only pad the output matrix: cut it to the tokenizer's size in the student"
        )
