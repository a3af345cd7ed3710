"""What selection did, in numbers: of the whole round, and by reason, domain and teacher."""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fire_opd.fire.ragged import Floats, Offsets, lengths


def selected(batch: pa.Table, offsets: Offsets, score_B: Floats) -> dict[str, Any]:
    """Metrics of a batch.

    Args:
        batch: table BATCH.
        offsets: where the trajectories' tokens begin and end.
        score_B: by which trajectories were ranked; the mean leaves out the empty ones.
    """
    kept = batch["kept"].to_numpy()
    reasons = np.array(batch["reason"].to_pylist(), dtype=object)
    count = lengths(offsets)

    def summary(rows: NDArray[np.bool_]) -> dict[str, Any]:
        scored = score_B[rows & (count > 0)]
        return {
            "rollouts": int(rows.sum()),
            "kept": int(kept[rows].sum()),
            "dropped": {str(r): int((reasons[rows] == r).sum()) for r in sorted({*reasons[rows]} - {None})},
            "filter_score": float(scored.mean()) if len(scored) else None,
            "length": float(count[rows].mean()) if rows.any() else None,
        }

    everything = summary(np.ones(len(kept), dtype=bool))
    by = {
        name: {
            value: summary(np.array(batch[name].to_pylist(), dtype=object) == value) for value in _values(batch[name])
        }
        for name in ("domain", "teacher")
    }
    return {
        **everything,
        "keep_ratio": everything["kept"] / max(len(kept), 1),
        "tokens": int(offsets[-1]),
        "kept_tokens": int(count[kept].sum()),
        "by_domain": by["domain"],
        "by_teacher": by["teacher"],
    }


def _values(column: pa.ChunkedArray) -> list[str]:
    return sorted(str(value) for value in set(column.to_pylist()) if value is not None)


def share(members: NDArray[np.bool_]) -> float:
    """Share of the trajectories [B] that are members; 0 of none."""
    return float(members.mean()) if len(members) else 0.0
