"""What other methods would do with a round that was scored: before any training, from its tables alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import ValidationError
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from fire_opd.errors import EmptyRoundError
from fire_opd.fire.methods import METHODS
from fire_opd.fire.ragged import flatten, spread
from fire_opd.fire.select import select
from fire_opd.records import ROLLOUT, SCORE, read_table
from fire_opd.report.page import Section, write_sheet
from fire_opd.report.picture import what_if_drawing
from fire_opd.spec import RunSpec
from fire_opd.spec.explain import explain
from fire_opd.stages import SCORE as SCORE_STAGE
from fire_opd.stages import Job
from fire_opd.storage import Run

_TITLE = "round {}: what each method would keep and weigh"
_TOP = 0.1  # share of tokens that carry most


def what_if(run: Run, round: int, methods: Sequence[str], *, gradients: bool = False) -> list[dict[str, Any]]:
    """Compare methods on one round; the first row is the run's own, to which the others are compared.

    Args:
        run: with rollouts and scores of the round.
        round: its number, from 1.
        methods: names, with the run's filter and weights where both have them.
        gradients: also load the models, and compare what the methods would teach the student that sampled.

    Returns:
        A row a method: `method`; shares `kept` of all trajectories, and `kept_tokens` of all tokens: those on kept
        trajectories whose A or u is not zero; `kept_by_domain`; `agree`, the share of trajectories that both keep or
        both drop; `rank`, Spearman's correlation of what each token weighs in the loss, |A| + u, over tokens that both
        keep; `top`, the share of the heaviest tenth of tokens that is the same; `mass`, of all |log πT − log πS|, which
        is |A| of plain OPD, that on kept tokens; with `gradients` the `cosine` of the gradients. Or `method` and
        `error`.
    """
    job = Job(run, SCORE_STAGE, round)
    rollouts = read_table(job.directory("rounds/{n}/rollouts") / "rollouts.parquet", ROLLOUT)
    scores = read_table(job.directory("rounds/{n}/scores") / "scores.parquet", SCORE)
    own, batches = None, {}
    rows: list[dict[str, Any]] = []
    for name in dict.fromkeys([run.spec.method.name, *methods]):
        try:
            spec = run.spec if name == run.spec.method.name else _with_method(run.spec, name)
        except ValidationError as error:
            rows.append({"method": name, "error": explain("with this run", error)})
            continue
        needed = (*spec.score_columns, *(["teacher_entropies"] if spec.needs_teacher_entropies else []))
        if missing := [name for name in needed if scores[name].null_count]:
            rows.append({"method": name, "error": f"needs scores with {', '.join(missing)}"})
            continue
        try:
            batch, metrics = select(rollouts, scores, spec, job.metrics())
        except EmptyRoundError as error:
            rows.append({"method": name, "error": str(error)})
            continue
        found = _influence(batch)
        own = own or found
        rows.append({"method": name, **_figures(metrics, found, own, scores)})
        if metrics["kept"]:
            batches[name] = (spec, batch)
    if gradients:
        from fire_opd.report.gradients import cosines  # torch takes seconds to import

        cosine = cosines(run, round, batches)
        for row in rows:
            row["cosine"] = cosine.get(row["method"])
    return rows


def _with_method(spec: RunSpec, name: str) -> RunSpec:
    values = spec.model_dump()
    values["method"] = {"name": name}
    own, its = spec.method.needs, METHODS[name].needs
    for part, fields in {**own.defaults, **its.defaults}.items():
        for field in fields:
            del values[part][field]  # another default with the one than with the other
    if its.filters != own.filters:
        del values["filter"], values["weights"]  # the defaults of the other kind
    elif not its.teacher_entropies:
        values["weights"] = {name: values["weights"][name] for name in ("alpha", "beta")}
    if not its.advantages:
        values["loss"]["dual_clip"] = None
    return RunSpec.model_validate(values)


def _influence(batch: pa.Table) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.float64]]:
    """Kept trajectories [B], the tokens on them that learn [T], and what each token weighs in the loss [T]."""
    advantage_T, offsets = flatten(batch["advantages"])
    weight_T = np.add(np.abs(advantage_T), flatten(batch["divergence_weights"])[0], dtype=np.float64)
    kept = batch["kept"].to_numpy()
    return kept, spread(kept, offsets) & (weight_T != 0), weight_T


def _figures(metrics: dict[str, Any], found: Any, own: Any, scores: pa.Table) -> dict[str, Any]:
    (kept, kept_T, weight_T), (own_kept, own_T, own_weight_T) = found, own
    gap_T = np.abs(np.subtract(flatten(scores["teacher_logprobs"])[0], flatten(scores["student_logprobs"])[0]))
    both_T = kept_T & own_T
    return {
        "kept": float(kept.mean()) if len(kept) else 0.0,
        "kept_tokens": float(kept_T.mean()) if len(kept_T) else 0.0,
        "kept_by_domain": {d: s["kept"] / max(s["rollouts"], 1) for d, s in metrics["by_domain"].items()},
        "agree": float((kept == own_kept).mean()) if len(kept) else 1.0,
        "rank": _rank_correlation(weight_T[both_T], own_weight_T[both_T]),
        "top": _same_top(weight_T * kept_T, own_weight_T * own_T),
        "mass": float(gap_T[kept_T].sum() / max(float(gap_T.sum()), 1e-12)),
    }


def _rank_correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float | None:
    """Spearman's, ties sharing their mean rank; None where one of the two does not vary."""
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(np.corrcoef(_ranks(a), _ranks(b))[0, 1])


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[place]


def _same_top(a: NDArray[np.float64], b: NDArray[np.float64]) -> float | None:
    count = int(len(a) * _TOP)
    if not count or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    top_a, top_b = (set(np.argsort(-values, kind="stable")[:count].tolist()) for values in (a, b))
    return len(top_a & top_b) / count


def what_if_cells(rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Headings, and the cells of a row a method; those that cannot be compared are left out."""
    cosine = ["cosine"] if any("cosine" in row for row in rows) else []
    domains = sorted({domain for row in rows for domain in row.get("kept_by_domain", {})})
    cells = [["method", "kept", *(f"kept {d}" for d in domains), "agree", "rank", "top tenth", "mass kept", *cosine]]
    for row in rows:
        if "error" in row:
            continue
        by_domain = [f"{row['kept_by_domain'].get(domain, 0):.0%}" for domain in domains]
        rank, top, *last = (f"{row[name]:.2f}" if row[name] is not None else "–" for name in ("rank", "top", *cosine))
        shares = f"{row['agree']:.0%}", rank, top, f"{row['mass']:.0%}"
        cells.append([row["method"], f"{row['kept']:.0%}", *by_domain, *shares, *last])
    return cells


def what_if_table(rows: Sequence[dict[str, Any]], round: int) -> Table:
    """The rows for the terminal; below them, what cannot be compared and why, which no column is wide enough for."""
    table = Table(title=_TITLE.format(round), box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    headings, *cells = what_if_cells(rows)
    for heading in headings:
        first = heading == "method"
        table.add_column(heading.replace(" ", "\n", 1), justify="left" if first else "right", no_wrap=first)
    for row in cells:
        table.add_row(*row)
    if failed := _not_compared(rows):
        table.caption, table.caption_justify = Text("\n".join(failed)), "left"
    return table


def write_what_if(rows: Sequence[dict[str, Any]], round: int, run: Run, file: Path) -> None:
    """The rows as a page for a browser, with their drawing."""
    failed = _not_compared(rows)
    sections = [
        Section("Figures", figure=what_if_drawing(rows, round), table=what_if_cells(rows)),
        *([Section("Not compared", failed)] if failed else []),
    ]
    write_sheet(
        file, f"{run.name}, {_TITLE.format(round)}", f"compared with {rows[0]['method']}, the run's own", sections
    )


def _not_compared(rows: Sequence[dict[str, Any]]) -> list[str]:
    return [f"{row['method']}: {row['error']}" for row in rows if "error" in row]
