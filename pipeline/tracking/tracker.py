"""A run's parameters and curves in MLflow, where losing the server costs its curves and nothing else.

Every call into MLflow, the import too, is made by one daemon thread behind a bounded queue: the first call
to a dead port takes four minutes, and nobody waits for it here (CASES, e17). What a server does not take now
is tried again until the run ends, then given up. The zoo holds the truth; this is a picture of it.
"""

from __future__ import annotations

import math
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from itertools import chain, count, groupby
from pathlib import Path
from queue import Queue
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from pipeline.running.files import write_new
from pipeline.running.progress import say
from pipeline.tracking.names import checked_uri, sqlite_uri, tracking_name
from tans_core.records import ZooSettings

if TYPE_CHECKING:
    from pipeline.zoo.history.journal import Journal

Status = Literal["FINISHED", "FAILED", "KILLED"]

_QUEUE_EVENTS = 10_000
_BATCH_VALUES = 1_000  # MLflow's own limit
_BATCH_PARAMS = 100  # likewise
_LAST_WORDS_S = 5.0  # what the end of a run waits for what is left
_PAUSE_S = (1.0, 30.0)  # between two tries: the first, the longest

# MLflow's own switches; it knows no arguments for them. What the user has set stays.
_SWITCHES = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",  # it prints a traceback for each failed try; we warn once
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}


class Tracker(Protocol):
    """Takes what a driver reports. No call waits (`finish` at most 5 s), and none raises because of a server."""

    @property
    def run_id(self) -> str | None:
        """The run's id for the journal; None until the server has given one."""
        ...

    def start(self, run_name: str, params: Mapping[str, object], run_id: str | None = None) -> None:
        """Begin a run, or go on with `run_id`. Parameters the run already has keep their first value."""
        ...

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Report values under any names; those that are not finite are left out and counted."""
        ...

    def dataset_input(self, zoo_uri: str, version: int, digest: str) -> None:
        """Say which version of which zoo the run read; `digest` has at most 36 characters."""
        ...

    def finish(self, status: Status) -> None:
        """End the run: waits at most 5 s for what is left, then gives it up."""
        ...


class NoTracker:
    """For who wants none."""

    run_id: str | None = None

    def start(self, run_name: str, params: Mapping[str, object], run_id: str | None = None) -> None: ...
    def log(self, metrics: Mapping[str, float], step: int) -> None: ...
    def dataset_input(self, zoo_uri: str, version: int, digest: str) -> None: ...
    def finish(self, status: Status) -> None: ...


def make_tracker(uri: str | None, zoo_uri: str, settings: ZooSettings, journal: Journal, run: str) -> Tracker:
    """A tracker for a build of the zoo, started; the MLflow run of the zoo's last build goes on.

    Args:
        uri: None: an SQLite file in the zoo's folder, or no tracking where SQLite cannot spell that folder.
        journal: holds the MLflow run's id as an event of the kind "mlflow".
        run: the driver's.

    Raises:
        ConfigError: as `MlflowTracker`.
    """
    if uri is None and ("?" in zoo_uri or "://" in zoo_uri):
        say(f"no MLflow: no SQLite file can lie at {zoo_uri}; --mlflow-uri names another place")
        return NoTracker()
    known = [event.payload["run_id"] for event in journal.events() if event.kind == "mlflow"]

    def note(run_id: str) -> None:
        if run_id not in known[-1:]:
            journal.append(run, [("mlflow", {"run_id": run_id})])

    tracker = MlflowTracker(uri or sqlite_uri(Path(zoo_uri)), "tans", note)
    params = {name: value for name, value in asdict(settings).items() if name != "recipe"}
    params |= {f"recipe.{name}": value for name, value in settings.recipe.items()}
    tracker.start(f"build-zoo {Path(zoo_uri).name}", params, run_id=known[-1] if known else None)
    return tracker


class _Start(NamedTuple):
    run_name: str
    run_id: str | None


class _Params(NamedTuple):
    texts: dict[str, str]


class _Values(NamedTuple):
    values: tuple[tuple[str, float, int, int], ...]  # name, value, milliseconds since 1970, step


class _Input(NamedTuple):
    zoo_uri: str
    version: int
    digest: str


class _Finish(NamedTuple):
    status: Status
    end_ms: int


_Event = _Start | _Params | _Values | _Input | _Finish


class MlflowTracker:
    """Writes to an MLflow store.

    Args:
        uri: `sqlite:////absolute/mlflow.db`, or the http(s) address of a server.
        experiment: its name; another one is used, and said, where that one was deleted.
        note_run_id: told the run's id once, by the caller's own thread, in the first `log` or `finish` that knows it.

    Raises:
        ConfigError: `uri` is a folder or `file:`, which MLflow no longer writes, or an SQLite path with a "?".
    """

    def __init__(self, uri: str, experiment: str, note_run_id: Callable[[str], None] | None = None) -> None:
        self.uri = checked_uri(uri)
        self.left_out = 0  # values that were not finite
        self._experiment = experiment
        self._queue: Queue[_Event] = Queue()
        self._writer: _Writer | None = None
        self._offered = 0
        self._note_run_id = note_run_id

    @property
    def run_id(self) -> str | None:
        return self._writer.run_id if self._writer else None

    @property
    def undelivered(self) -> int:
        """Values that were reported and are not, or not yet, in the store."""
        return self._offered - (self._writer.delivered if self._writer else 0)

    def start(self, run_name: str, params: Mapping[str, object], run_id: str | None = None) -> None:
        assert self._writer is None, "a tracker writes one run"
        for name, value in _SWITCHES.items():
            os.environ.setdefault(name, value)
        self._queue.put(_Start(run_name, run_id))
        self._queue.put(_Params({tracking_name(name): str(value) for name, value in params.items()}))
        self._writer = _Writer(self.uri, self._experiment, self._queue)
        self._writer.start()

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        now_ms = time.time_ns() // 1_000_000
        finite = {name: float(value) for name, value in metrics.items() if math.isfinite(value)}
        self.left_out += len(metrics) - len(finite)
        self._offered += len(finite)
        self._note()
        if finite:
            self._put(_Values(tuple((tracking_name(name), value, now_ms, step) for name, value in finite.items())))

    def dataset_input(self, zoo_uri: str, version: int, digest: str) -> None:
        self._put(_Input(zoo_uri, version, digest))

    def finish(self, status: Status) -> None:
        if self._writer is None or self._writer.closing.is_set():
            return
        self._queue.put(_Finish(status, time.time_ns() // 1_000_000))
        self._writer.closing.set()
        self._writer.join(_LAST_WORDS_S)
        if self._writer.is_alive():
            self._writer.given_up.set()
            self._writer.warn(f"{self.undelivered} values have not arrived within {_LAST_WORDS_S:.0f} s at the end")
        self._note()
        if self.left_out:
            say(f"MLflow: {self.left_out} values were not finite and are left out")

    def _note(self) -> None:
        if self._note_run_id is not None and self.run_id is not None:
            note, self._note_run_id = self._note_run_id, None
            note(self.run_id)

    def _put(self, event: _Event) -> None:
        """Hand over, or drop where the thread is hopelessly behind: memory is bounded, the caller never waits."""
        assert self._writer is not None, "start comes first"
        if self._queue.qsize() < _QUEUE_EVENTS:
            self._queue.put(event)
        else:
            self._writer.warn(f"{_QUEUE_EVENTS:,} reports wait to be sent, later ones are dropped")


class _Writer(threading.Thread):
    """The one thread that calls MLflow. A daemon, so that no server can hold the exit."""

    def __init__(self, uri: str, experiment: str, queue: Queue[_Event]) -> None:
        super().__init__(name="mlflow", daemon=True)
        self.run_id: str | None = None
        self.delivered = 0
        self.closing = threading.Event()  # nothing comes after what is queued now
        self.given_up = threading.Event()
        self._uri = uri
        self._experiment = experiment
        self._queue = queue
        self._store: _Store | None = None
        self._warned = threading.Lock()  # taken once, for ever

    def warn(self, reason: str) -> None:
        """The one line about a server in trouble, whoever meets it first."""
        if self._warned.acquire(blocking=False):
            short = reason.splitlines()[0][:200]
            say(f"MLflow at {self._uri}: {short}. The work goes on; what waits is sent if it can be")

    def run(self) -> None:
        """Take all that waits, deliver it, until the run is finished or given up."""
        while not self.given_up.is_set():
            events = [self._queue.get()]
            while not self._queue.empty():
                events.append(self._queue.get())
            for event in _merged(events):
                self._deliver(event)
                if isinstance(event, _Finish):
                    return

    def _deliver(self, event: _Event) -> None:
        """Try until the store takes or refuses it, or the run is over."""
        pause_s, longest_s = _PAUSE_S
        while not self.given_up.is_set():
            try:
                return self._send(event)
            except Exception as error:  # whatever MLflow raises: nobody else is here to see it
                self.warn(f"{type(error).__name__}: {error}")
                if _is_refusal(error):
                    return self._refused(event)
            if self.closing.is_set():
                self.given_up.wait(0.5)
            else:
                self.closing.wait(pause_s)
                pause_s = min(2 * pause_s, longest_s)

    def _refused(self, event: _Event) -> None:
        """A batch goes again value by value, to lose no more than what is refused; without a run all is lost."""
        if isinstance(event, _Start):
            self.given_up.set()
        elif isinstance(event, _Values) and len(event.values) > 1:
            for value in event.values:
                self._deliver(_Values((value,)))

    def _send(self, event: _Event) -> None:
        if self._store is None:
            self._store = _Store(self._uri)
        if isinstance(event, _Start):
            self.run_id = self._store.open_run(self._experiment, event)
            return
        assert self.run_id is not None, "start is the first event"
        if isinstance(event, _Params):
            self._store.log_params(self.run_id, event)
        elif isinstance(event, _Values):
            self._store.log(self.run_id, event)
            self.delivered += len(event.values)
        elif isinstance(event, _Input):
            self._store.dataset_input(self.run_id, event)
        else:
            self._store.finish(self.run_id, event)


def _merged(events: list[_Event]) -> Iterator[_Event]:
    """Values that follow each other as few batches: one call a batch, not one a step."""
    for kind, group in groupby(events, key=type):
        if kind is not _Values:
            yield from group
            continue
        values = tuple(value for event in group if isinstance(event, _Values) for value in event.values)
        for first in range(0, len(values), _BATCH_VALUES):
            yield _Values(values[first : first + _BATCH_VALUES])


def _is_refusal(error: Exception) -> bool:
    """Whether asking again is useless. A server that is away, busy or wants a login may yet come round."""
    if getattr(error, "error_code", None) == "RESOURCE_ALREADY_EXISTS":
        return False  # another driver has just made the experiment, which the next try finds
    status = getattr(error, "get_http_status_code", lambda: None)()  # not by class: its import may be what failed
    return status in (400, 404) or isinstance(error, (TypeError, ValueError))


class _Store:
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

    def open_run(self, experiment: str, start: _Start) -> str:
        """The id of the run that goes on, or of a new one."""
        if start.run_id is not None and self._is_active(start.run_id):
            self._client.update_run(start.run_id, status="RUNNING")
            return start.run_id
        return self._client.create_run(self._experiment_id(experiment), run_name=start.run_name).info.run_id

    def log_params(self, run_id: str, event: _Params) -> None:
        """Those the run does not have: MLflow raises for a changed one, and a resumed build may have some."""
        from mlflow.entities import Param

        known = self._client.get_run(run_id).data.params
        new = [Param(name, text) for name, text in event.texts.items() if name not in known]
        for first in range(0, len(new), _BATCH_PARAMS):
            self._client.log_batch(run_id, params=new[first : first + _BATCH_PARAMS])

    def log(self, run_id: str, event: _Values) -> None:
        from mlflow.entities import Metric

        self._client.log_batch(run_id, metrics=[Metric(*value) for value in event.values])

    def dataset_input(self, run_id: str, event: _Input) -> None:
        from mlflow.data.delta_dataset_source import DeltaDatasetSource
        from mlflow.data.meta_dataset import MetaDataset
        from mlflow.entities import DatasetInput

        source = DeltaDatasetSource(path=event.zoo_uri, delta_table_version=event.version)
        dataset = MetaDataset(source, name="zoo", digest=event.digest)
        self._client.log_inputs(run_id, datasets=[DatasetInput(dataset._to_mlflow_entity())])

    def finish(self, run_id: str, event: _Finish) -> None:
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
