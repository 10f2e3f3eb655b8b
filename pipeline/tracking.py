"""A run's parameters and curves in MLflow, where losing the server costs its curves and nothing else.

Every call into MLflow, the import too, is made by one daemon thread behind a bounded queue: the first call
to a dead port takes four minutes, and nobody waits for it here (CASES, e17). What a server does not take now
is tried again until the run ends, then given up. The zoo holds the truth; this is a picture of it.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from itertools import chain, count, groupby
from pathlib import Path
from queue import Queue
from typing import Literal, NamedTuple, Protocol

from pipeline.progress import say
from tans_core.errors import ConfigError
from tans_core.records import content_hash

Status = Literal["FINISHED", "FAILED", "KILLED"]

_QUEUE_EVENTS = 10_000
_BATCH_VALUES = 1_000  # MLflow's own limit
_BATCH_PARAMS = 100  # likewise
_NAME_LENGTH = 250  # likewise
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


def sqlite_uri(folder: Path) -> str:
    """The default store: `mlflow.db` in `folder`, as MLflow spells it."""
    return f"sqlite:///{folder.expanduser().resolve() / 'mlflow.db'}"


def tracking_name(text: str) -> str:
    """A name that MLflow takes, for a metric, a parameter or a part of either.

    Good names stay as they are. Where something had to be replaced or cut, a hash of the whole text ends the
    name, so that different texts keep different names.
    """
    parts = [part for part in re.sub(r"[^\w\-. :/]", "_", text).split("/") if part not in ("", ".")]
    name = "/".join("__" if part == ".." else part for part in parts)
    if name == text and 0 < len(name) <= _NAME_LENGTH:
        return name
    mark = content_hash(text.encode(errors="surrogatepass"))[:8]
    return f"{name[: _NAME_LENGTH - len(mark) - 1]}-{mark}"


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
    """Writes to an MLflow store: `sqlite:////absolute/mlflow.db`, or the http(s) address of a server.

    Raises:
        ConfigError: `uri` is a folder or `file:`, which MLflow no longer writes, or an SQLite path with a "?".
    """

    def __init__(self, uri: str, experiment: str) -> None:
        self.uri = _checked(uri)
        self.left_out = 0  # values that were not finite
        self._experiment = experiment
        self._queue: Queue[_Event] = Queue()
        self._writer: _Writer | None = None
        self._offered = 0

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
            self._writer.warn(f"no answer within {_LAST_WORDS_S:.0f} s at the end")
        if self.left_out:
            say(f"MLflow: {self.left_out} values were not finite and are left out")

    def _put(self, event: _Event) -> None:
        """Hand over, or drop where the thread is hopelessly behind: memory is bounded, the caller never waits."""
        assert self._writer is not None, "start comes first"
        if self._queue.qsize() < _QUEUE_EVENTS:
            self._queue.put(event)
        else:
            self._writer.warn(f"{_QUEUE_EVENTS:,} reports wait to be sent, later ones are dropped")


def _checked(uri: str) -> str:
    """The URI with an absolute path: the working folder changes before Ray starts."""
    scheme, separator, path = uri.partition("://")
    here = sqlite_uri(Path.cwd())
    if not separator or scheme == "file":
        raise ConfigError(
            f"{uri!r} is a folder, and MLflow no longer keeps its runs in one: "
            f"give {here!r}, or the http(s) address of a tracking server"
        )
    if not scheme.startswith("sqlite"):
        return uri
    if "?" in path:
        raise ConfigError(f"{uri!r}: SQLite's address cannot hold a '?': give another place, such as {here!r}")
    return f"{scheme}:///{Path(path.removeprefix('/')).expanduser().absolute()}"


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
        while not self.given_up.is_set():
            for event in _merged(self._drain()):
                self._deliver(event)
                if isinstance(event, _Finish):
                    return

    def _drain(self) -> list[_Event]:
        """All that waits; at least one event."""
        events = [self._queue.get()]
        while not self._queue.empty():
            events.append(self._queue.get())
        return events

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

    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with tempfile.TemporaryDirectory(prefix="tans-mlflow-") as folder:
        made = Path(folder) / path.name
        MlflowClient(tracking_uri=f"sqlite:///{made}")
        shutil.copyfile(made, beside)
    try:
        os.link(beside, path)  # unlike a rename, it never replaces what another driver was faster to make
    except FileExistsError:
        pass
    finally:
        beside.unlink()
