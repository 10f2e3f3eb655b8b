"""What a worker is handed, and what it returns."""

from __future__ import annotations

from dataclasses import dataclass

from tans_core.lineage import SupernetIdentity, TrainedSupernet
from tans_core.records import Attempt, Choice, DatasetRecord, PairIdentity, Seconds, TrainedPair, Worker


@dataclass(frozen=True, kw_only=True)
class Job:
    """A pair to be trained. `choice` says why; only `identity` may change what comes out."""

    key: str
    name: str  # for people: "wesnoth-units 3f9a"
    identity: PairIdentity
    attempt: Attempt
    choice: Choice
    deadline_s: float

    @property
    def fingerprint(self) -> str:
        return self.identity.fingerprint


@dataclass(frozen=True, kw_only=True)
class SupernetJob:
    """A dataset's supernet to be trained, out of which its pairs are cut."""

    key: str
    name: str  # for people: "the supernet of wesnoth-units"
    identity: SupernetIdentity
    attempt: Attempt
    deadline_s: float

    @property
    def fingerprint(self) -> str:
        return self.identity.fingerprint


@dataclass(frozen=True, kw_only=True)
class DescribeJob:
    """A dataset to be looked at before anything is trained on it."""

    fingerprint: str
    name: str
    deadline_s: float


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a job gave nothing. `kind` is the class of the error, for counting."""

    kind: str
    message: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """What a worker returns for a pair: exactly one of `trained` and `failure`."""

    job: Job
    worker: Worker
    seconds: Seconds
    trained: TrainedPair | None = None
    failure: Failure | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class SupernetOutcome:
    """What a worker returns for a supernet: exactly one of `trained` and `failure`."""

    job: SupernetJob
    worker: Worker
    seconds: Seconds
    trained: TrainedSupernet | None = None
    failure: Failure | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Described:
    """What a worker returns for a dataset it looked at: exactly one of `record` and `failure`."""

    job: DescribeJob
    worker: Worker
    seconds: Seconds
    record: DatasetRecord | None = None
    failure: Failure | None = None


AnyJob = Job | SupernetJob | DescribeJob
AnyOutcome = Outcome | SupernetOutcome | Described
