"""A run's parameters and curves in MLflow, where losing the server costs its curves and nothing else.

Every call into MLflow, the import too, is made by one daemon thread behind a bounded queue: the first call
to a dead port takes four minutes, and nobody waits for it here (CASES, e17). What a server does not take now
is tried again until the run ends, then given up. The zoo holds the truth; this is a picture of it.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from queue import Queue
from typing import TYPE_CHECKING, Protocol

from pipeline.running.progress import say
from pipeline.tracking.mlflow_store import Event, Finish, Input, Model, Params, Start, Status, Store, Values
from pipeline.tracking.names import checked_uri, sqlite_uri, tracking_name
from tans_core.records import ZooSettings

if TYPE_CHECKING:
    from pipeline.zoo.history.journal import Journal

_QUEUE_EVENTS = 10_000
_BATCH_VALUES = 1_000  # MLflow's own limit
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

    def model(self, files: Sequence[Path], name: str, alias: str) -> None:
        """Keep files with the run, and register them as the newest version of the model `name`, with an alias."""
        ...

    def child(self, run_name: str, params: Mapping[str, object], run_id: str | None = None) -> Tracker:
        """A run below this one, started; its `finish` does not wait, that of this one waits for all."""
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
    def model(self, files: Sequence[Path], name: str, alias: str) -> None: ...
    def child(self, run_name: str, params: Mapping[str, object], run_id: str | None = None) -> Tracker:
        return self

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
    params = {name: value for name, value in asdict(settings).items() if not isinstance(value, dict)}
    for part in ("recipe", "supernet_recipe"):
        params |= {f"{part}.{name}": value for name, value in getattr(settings, part).items()}
    tracker.start(f"build-zoo {Path(zoo_uri).name}", params, run_id=known[-1] if known else None)
    return tracker


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
        self._queue: Queue[Event] = Queue()
        self._writer: _Writer | None = None
        self._run = 0  # its place among the runs that one thread writes
        self._children = 0
        self._note_run_id = note_run_id

    @property
    def run_id(self) -> str | None:
        return self._writer.run_ids.get(self._run) if self._writer else None

    @property
    def undelivered(self) -> int:
        """Values that were reported and are not, or not yet, in the store."""
        return self._writer.offered - self._writer.delivered if self._writer else 0

    def start(self, run_name: str, params: Mapping[str, object], run_id: str | None = None) -> None:
        assert self._writer is None, "a tracker writes one run"
        for name, value in _SWITCHES.items():
            os.environ.setdefault(name, value)
        self._writer = _Writer(self.uri, self._experiment, self._queue)
        self._begin(run_name, params, run_id)
        self._writer.start()

    def child(self, run_name: str, params: Mapping[str, object], run_id: str | None = None) -> Tracker:
        assert self._run == 0, "a child has no children"
        self._children += 1
        child = MlflowTracker(self.uri, self._experiment)
        child._queue, child._writer, child._run = self._queue, self._writer, self._children
        child._begin(run_name, params, run_id)
        return child

    def _begin(self, run_name: str, params: Mapping[str, object], run_id: str | None) -> None:
        self._put(Start(self._run, run_name, run_id))
        self._put(Params(self._run, {tracking_name(name): str(value) for name, value in params.items()}))

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        now_ms = time.time_ns() // 1_000_000
        finite = {name: float(value) for name, value in metrics.items() if math.isfinite(value)}
        self.left_out += len(metrics) - len(finite)
        self._note()
        if finite:
            values = tuple((tracking_name(name), value, now_ms, step) for name, value in finite.items())
            self._put(Values(self._run, values))

    def dataset_input(self, zoo_uri: str, version: int, digest: str) -> None:
        self._put(Input(self._run, zoo_uri, version, digest))

    def model(self, files: Sequence[Path], name: str, alias: str) -> None:
        self._put(Model(self._run, tuple(files), name, alias))

    def finish(self, status: Status) -> None:
        if self._writer is None or self._writer.closing.is_set():
            return
        self._queue.put(Finish(self._run, status, time.time_ns() // 1_000_000))
        if self._run > 0:
            self._note()
            return
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

    def _put(self, event: Event) -> None:
        """Hand over, or drop where the thread is hopelessly behind: memory is bounded, the caller never waits."""
        assert self._writer is not None, "start comes first"
        self._writer.offered += len(event.values) if isinstance(event, Values) else 0
        if self._queue.qsize() < _QUEUE_EVENTS:
            self._queue.put(event)
        else:
            self._writer.warn(f"{_QUEUE_EVENTS:,} reports wait to be sent, later ones are dropped")


class _Writer(threading.Thread):
    """The one thread that calls MLflow. A daemon, so that no server can hold the exit."""

    def __init__(self, uri: str, experiment: str, queue: Queue[Event]) -> None:
        super().__init__(name="mlflow", daemon=True)
        self.run_ids: dict[int, str] = {}
        self.offered = self.delivered = 0  # values
        self.closing = threading.Event()  # nothing comes after what is queued now
        self.given_up = threading.Event()
        self._uri = uri
        self._experiment = experiment
        self._queue = queue
        self._store: Store | None = None
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
                if isinstance(event, Finish) and event.run == 0:
                    return

    def _deliver(self, event: Event) -> None:
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

    def _refused(self, event: Event) -> None:
        """A batch goes again value by value, to lose no more than what is refused; without a run all of it is lost,
        without the tracker's own all of them."""
        if isinstance(event, Start) and event.run == 0:
            self.given_up.set()
        elif isinstance(event, Values) and len(event.values) > 1:
            for value in event.values:
                self._deliver(Values(event.run, (value,)))

    def _send(self, event: Event) -> None:
        if self._store is None:
            self._store = Store(self._uri)
        if isinstance(event, Start):
            self.run_ids[event.run] = self._store.open_run(self._experiment, event, self.run_ids.get(0))
            return
        run_id = self.run_ids.get(event.run)
        if run_id is None:  # refused at its start
            return
        if isinstance(event, Params):
            self._store.log_params(run_id, event)
        elif isinstance(event, Values):
            self._store.log(run_id, event)
            self.delivered += len(event.values)
        elif isinstance(event, Input):
            self._store.dataset_input(run_id, event)
        elif isinstance(event, Model):
            self._store.register(run_id, event)
        else:
            self._store.finish(run_id, event)


def _merged(events: list[Event]) -> Iterator[Event]:
    """Values that follow each other as few batches: one call a batch, not one a step."""
    for (kind, run), group in groupby(events, key=lambda event: (type(event), event.run)):
        if kind is not Values:
            yield from group
            continue
        values = tuple(value for event in group if isinstance(event, Values) for value in event.values)
        for first in range(0, len(values), _BATCH_VALUES):
            yield Values(run, values[first : first + _BATCH_VALUES])


def _is_refusal(error: Exception) -> bool:
    """Whether asking again is useless. A server that is away, busy or wants a login may yet come round."""
    if getattr(error, "error_code", None) == "RESOURCE_ALREADY_EXISTS":
        return False  # another driver has just made the experiment, which the next try finds
    status = getattr(error, "get_http_status_code", lambda: None)()  # not by class: its import may be what failed
    return status in (400, 404) or isinstance(error, (TypeError, ValueError))
