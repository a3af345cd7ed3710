"""What a tracker is told of a round, read from the manifests of its stages. The one axis is the number of updates."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fire_opd.report import round_figures
from fire_opd.stages import EVALUATE, TRAIN, Job
from fire_opd.storage import Run

_SAMPLES = 8
_SAMPLE_COLUMNS = ["domain", "prompt", "text", "answer", "correct"]


@dataclass(frozen=True)
class RoundFigures:
    """Figures of one round.

    Attributes:
        metrics: by name, for each of its updates, counted from 1 over the run; the last one also has those of the
            round, such as `held_out/value`.
        samples: some of the newest held-out answers.
    """

    metrics: dict[int, dict[str, float]]
    samples: list[dict[str, Any]]

    @property
    def table(self) -> dict[str, list[Any]]:
        """The samples as the tables of trackers take them: names of `columns`, and rows of text as `data`."""
        columns = list(self.samples[0]) if self.samples else []
        return {"columns": columns, "data": [[str(sample[name]) for name in columns] for sample in self.samples]}

    @property
    def step(self) -> int:
        """Updates when it was complete."""
        return max(self.metrics)


def round_to_log(run: Run, number: int) -> RoundFigures:
    """The figures of a complete round."""
    import pyarrow.parquet as pq

    nothing: dict[str, Any] = {"first_update": 0, "trained_updates": 0, "updates": 0}
    train = Job(run, TRAIN, number).metrics() if number else nothing
    first, count, last = train["first_update"], train["updates"], train["trained_updates"]
    series = {f"train/{name}": values for name, values in train.get("by_update", {}).items()}
    metrics = {first + n + 1: {name: values[n] for name, values in series.items()} for n in range(count)}
    figures = flat(round_figures(run, number))
    of_round = {name: float(value) for name, value in figures if isinstance(value, int | float)}
    metrics[last] = {**metrics.get(last, {}), **of_round}
    evaluated = Job(run, EVALUATE, run.spec.evaluated_at(number))
    answers = evaluated.directory(EVALUATE.outputs[-1].directory) / "samples.parquet"
    samples = pq.read_table(answers, columns=_SAMPLE_COLUMNS).slice(0, _SAMPLES).to_pylist()
    return RoundFigures(metrics, samples)


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """All that is no mapping below `values`, by its path."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", value
