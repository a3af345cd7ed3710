"""MLflow: the server of MLFLOW_TRACKING_URI, else a database in the run's folder, for `mlflow ui`."""

import os
import time
from pathlib import Path

from mlflow.entities import Metric, Param
from mlflow.tracking import MlflowClient

from fire_opd.loggers.figures import RoundFigures, flat
from fire_opd.storage import Run

_TAG = "fire-opd.folder"  # a run that goes on is found again by it
_BATCH = 100  # parameters that one call may carry


class Mlflow:
    """One MLflow run, in the experiment of the spec's project."""

    def __init__(self, client: MlflowClient, run_id: str) -> None:
        self._client, self._run_id = client, run_id

    def log(self, round: RoundFigures) -> None:
        """As `Logger`."""
        now = int(time.time() * 1000)
        for step, values in round.metrics.items():
            metrics = [Metric(name, value, now, step) for name, value in values.items()]
            self._client.log_batch(self._run_id, metrics=metrics)
        self._client.log_dict(self._run_id, {"samples": round.samples}, f"samples/{round.step}.json")

    def close(self) -> None:
        """As `Logger`."""
        self._client.set_terminated(self._run_id)


def open_logger(run: Run, folder: Path) -> Mlflow:
    """As `Logger`."""
    named, project = os.environ.get("MLFLOW_TRACKING_URI"), run.spec.loggers.project
    client = MlflowClient(named or f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(project)
    artifacts = None if named else (folder / "artifacts").as_uri()
    experiment_id = experiment.experiment_id if experiment else client.create_experiment(project, artifacts)
    found = client.search_runs([experiment_id], f"tags.`{_TAG}` = '{run.folder}'", max_results=1)
    if found:
        return Mlflow(client, found[0].info.run_id)
    made = client.create_run(experiment_id, tags={_TAG: str(run.folder)}, run_name=run.name)
    params = [Param(name, str(value)) for name, value in flat(run.spec.model_dump(mode="json"))]
    for start in range(0, len(params), _BATCH):
        client.log_batch(made.info.run_id, params=params[start : start + _BATCH])
    return Mlflow(client, made.info.run_id)
