"""What a run of MLflow is told, and the store that it is told to."""

from __future__ import annotations

import tempfile
from itertools import chain, count
from pathlib import Path
from typing import Literal, NamedTuple

from pipeline.running.files import write_new
from pipeline.running.progress import say

Status = Literal["FINISHED", "FAILED", "KILLED"]

_BATCH_PARAMS = 100  # MLflow's own limit


# `run` is the place of a run among those of one tracker: 0 its own, then its children.


class Start(NamedTuple):
    run: int
    run_name: str
    run_id: str | None


class Params(NamedTuple):
    run: int
    texts: dict[str, str]


class Values(NamedTuple):
    run: int
    values: tuple[tuple[str, float, int, int], ...]  # name, value, milliseconds since 1970, step


class Input(NamedTuple):
    run: int
    zoo_uri: str
    version: int
    digest: str


class Model(NamedTuple):
    run: int
    files: tuple[Path, ...]
    name: str
    alias: str


class Finish(NamedTuple):
    run: int
    status: Status
    end_ms: int


Event = Start | Params | Values | Input | Model | Finish


class Store:
    """MLflow's client for one URI. Every method may block for long, and may raise."""

    def __init__(self, uri: str) -> None:
        from mlflow import MlflowClient

        self._artifacts: str | None = None  # a server knows its own place
        if uri.startswith("sqlite"):
            database = Path(uri.partition(":///")[2])
            if not database.exists():
                _create_database(database)
            self._artifacts = (database.parent / "mlflow-artifacts").as_uri()
        self._client = MlflowClient(tracking_uri=uri)

    def open_run(self, experiment: str, start: Start, parent: str | None) -> str:
        """The id of the run that goes on, or of a new one, below `parent` where there is one."""
        if start.run_id is not None and self._is_active(start.run_id):
            self._client.update_run(start.run_id, status="RUNNING")
            return start.run_id
        tags = None if parent is None else {"mlflow.parentRunId": parent}
        return self._client.create_run(self._experiment_id(experiment), tags=tags, run_name=start.run_name).info.run_id

    def log_params(self, run_id: str, event: Params) -> None:
        """Those the run does not have: MLflow raises for a changed one, and a resumed build may have some."""
        from mlflow.entities import Param

        known = self._client.get_run(run_id).data.params
        new = [Param(name, text) for name, text in event.texts.items() if name not in known]
        for first in range(0, len(new), _BATCH_PARAMS):
            self._client.log_batch(run_id, params=new[first : first + _BATCH_PARAMS])

    def log(self, run_id: str, event: Values) -> None:
        from mlflow.entities import Metric

        self._client.log_batch(run_id, metrics=[Metric(*value) for value in event.values])

    def dataset_input(self, run_id: str, event: Input) -> None:
        from mlflow.data.delta_dataset_source import DeltaDatasetSource
        from mlflow.data.meta_dataset import MetaDataset
        from mlflow.entities import DatasetInput

        source = DeltaDatasetSource(path=event.zoo_uri, delta_table_version=event.version)
        dataset = MetaDataset(source, name="zoo", digest=event.digest)
        self._client.log_inputs(run_id, datasets=[DatasetInput(dataset._to_mlflow_entity())])

    def register(self, run_id: str, event: Model) -> None:
        """The files as artefacts of the run, and these as the newest version of a model. Once a run, however often."""
        from mlflow.exceptions import MlflowException

        for file in event.files:
            self._client.log_artifact(run_id, str(file), event.name)
        versions = self._client.search_model_versions(f"run_id = '{run_id}'")
        if not versions:
            try:
                self._client.create_registered_model(event.name)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            versions = [self._client.create_model_version(event.name, f"runs:/{run_id}/{event.name}", run_id)]
        self._client.set_registered_model_alias(event.name, event.alias, str(versions[0].version))

    def finish(self, run_id: str, event: Finish) -> None:
        self._client.set_terminated(run_id, status=event.status, end_time=event.end_ms)

    def _is_active(self, run_id: str) -> bool:
        """Whether there is a run to go on with; said if someone deleted it or its experiment."""
        from mlflow.exceptions import MlflowException

        try:
            if self._client.get_run(run_id).info.lifecycle_stage == "active":
                return True
        except MlflowException as error:
            if error.get_http_status_code() not in (400, 404):
                raise
        say(f"MLflow: run {run_id} is no longer there; this goes on in a new run")
        return False

    def _experiment_id(self, name: str) -> str:
        """The experiment of that name. A deleted one blocks its name: then the next free one, and said."""
        names = chain([name], (f"{name} ({number})" for number in count(2)))
        looked_up = ((free, self._client.get_experiment_by_name(free)) for free in names)
        free, found = next(pair for pair in looked_up if pair[1] is None or pair[1].lifecycle_stage == "active")
        if free != name:
            say(f"MLflow: experiment {name!r} was deleted; this run is in {free!r}")
        return found.experiment_id if found else self._client.create_experiment(free, self._artifacts)


def _create_database(path: Path) -> None:
    """A new store, made elsewhere and put in place whole.

    MLflow's hundred migrations take seconds; a process that ends among them leaves a file that no later
    run can open (seen in 4 of 7 tries).
    """
    from mlflow import MlflowClient

    with tempfile.TemporaryDirectory(prefix="tans-mlflow-") as folder:
        made = Path(folder) / path.name
        MlflowClient(tracking_uri=f"sqlite:///{made}")
        write_new(path, made.read_bytes())  # or leave what another driver was faster to make
