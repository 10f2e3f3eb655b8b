"""The nouns: frozen records that travel between the rooms.

Tensor axes: N images, C channels (1 grey, 3 colour), S side in pixels, D features, R rows, T topology.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # a process that only decodes pictures is up in a tenth of the time
    from torch import Tensor


def content_hash(*parts: bytes | memoryview) -> str:
    """BLAKE2b-128 in hexadecimal of parts one after the other: the one hash of keys, fingerprints and weights."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys and no blanks, so that equal values have equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


# --- datasets -----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """Entries of one reason that are or claim to be pictures and are not used."""

    reason: str
    paths: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ReadingReport:
    """What reading a SPEC found beside the pictures that are used."""

    skipped: tuple[Skipped, ...] = ()
    ignored: dict[str, int] = field(default_factory=dict)  # kind of file -> count
    dropped_classes: tuple[str, ...] = ()  # each with its reason
    notes: tuple[str, ...] = ()  # sentences for a person: own split, frames, scaling
    copies: tuple[str, ...] = ()  # other SPECs that gave this same dataset, which counts once


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageDataset:
    """Decoded pictures of at least two classes, split into training, validation and test.

    `images` is uint8 (N, C, S, S): longest side scaled to S, letterboxed. The three index tensors
    are disjoint, int64, and together are all of N. `fingerprint` is the identity, `name` a label.
    """

    fingerprint: str
    name: str
    source: str
    spec: str
    licence: str
    class_names: tuple[str, ...]
    images: Tensor
    labels: Tensor  # int64 (N,)
    train: Tensor
    validation: Tensor
    test: Tensor
    deep: dict[str, tuple[float, float]] = field(default_factory=dict)  # what became black and white in those of
    report: ReadingReport = ReadingReport()  # more than 8 bits: of "integers", of "floats", where there are any
    image_hashes: bytes = b""  # BLAKE2b-128 of each picture's decoded pixels, 16 bytes an image; empty: not known
    paths: bytes = b""  # where each image was found: UTF-8, parted by zero bytes; empty: not known

    @property
    def image_size(self) -> int:
        return self.images.shape[-1]

    @property
    def chance(self) -> float:
        """Share of the largest class in training."""
        counts = self.labels[self.train].bincount(minlength=len(self.class_names))
        return (counts.max() / counts.sum()).item()

    def counts(self) -> dict[str, list[int]]:
        """Images of each class on each side, in the order of `class_names`."""
        sides = {"train": self.train, "validation": self.validation, "test": self.test}
        return {
            side: self.labels[index].bincount(minlength=len(self.class_names)).tolist() for side, index in sides.items()
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class Features:
    """Features of the frozen backbone, float32 (instances, D), with their class labels (int64).

    Validation and test instances are kept apart from those of training: a query is trained on the first only.
    """

    train_ND: Tensor
    train_labels_N: Tensor
    validation_ND: Tensor
    validation_labels_N: Tensor
    test_ND: Tensor
    test_labels_N: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class DatasetRecord:
    """What a zoo keeps of a dataset once seen: everything but its images."""

    fingerprint: str
    spec: str
    name: str
    source: str
    licence: str
    class_names: tuple[str, ...]
    counts: dict[str, list[int]]  # as ImageDataset.counts()
    chance: float
    channels: int
    mirror: bool  # mirrored pictures keep their class: decided on the training images
    features: Features
    image_hashes: bytes = b""  # as ImageDataset.image_hashes; empty: recorded before they were kept


# --- networks -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Architecture:
    """A subnet of a search space, canonical: blocks beyond a stage's depth are 0."""

    kernel_sizes: tuple[int, ...]
    expand_ratios: tuple[int, ...]
    depths: tuple[int, ...]

    @property
    def topology(self) -> tuple[int, ...]:
        """Kernel size and expansion ratio of each block, then depth of each elastic stage."""
        return self.kernel_sizes + self.expand_ratios + self.depths


@dataclass(frozen=True, slots=True)
class Costs:
    """Parameters, and multiply-accumulates of convolutions and linear layers for one image (as OFA counts FLOPs)."""

    params: int
    flops: int


# --- a pair on its way ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Candidate:
    """A dataset-network pair that may be trained."""

    fingerprint: str
    topology: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Observation:
    """A trained pair as the choice sees it: validation counts are its label."""

    candidate: Candidate
    correct: int
    total: int


@dataclass(frozen=True, slots=True)
class Choice:
    """The next pair, and why. Predictions are accuracies from 0 to 1; None where nothing was predicted."""

    candidate: Candidate
    decision: int  # its number, from 0
    chosen_by: str  # "random", "hypervolume", or "retry"
    reason: str
    predicted_mean: float | None = None
    predicted_std: float | None = None
    expected_gain: float | None = None
    candidates_scored: int = 0
    runners_up: tuple[tuple[str, float], ...] = ()  # (fingerprint, gain), best first


@dataclass(frozen=True, slots=True)
class Attempt:
    """Who tried a key: the driver's run and its counter (from 1)."""

    run: str
    number: int


@dataclass(frozen=True, slots=True)
class Worker:
    """Who did a job, and where."""

    name: str
    node: str  # id of the node under Ray, else the host's name
    device: str  # kind of what it computed on: "cpu", or "cuda: " and the GPU's name


@dataclass(frozen=True, kw_only=True)
class PairIdentity:
    """All that decides what training a pair gives. Its hash is the key of the pair."""

    fingerprint: str
    search_space: str
    topology: tuple[int, ...]
    width: float
    image_size: int
    mode: str  # "standalone", or "from_supernet": cut out of its dataset's supernet
    recipe: dict[str, Any]  # asdict(Recipe) or asdict(SupernetRecipe), mirror decided
    supernet: str  # hash of the starting weights
    seed: int
    parent: str | None = None  # key of the row that it goes on from, part of the key where there is one

    @property
    def key(self) -> str:
        return content_hash(canonical_json({name: value for name, value in asdict(self).items() if value is not None}))


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """One epoch: mean training loss; validation counts where they were taken."""

    epoch: int
    train_loss: float
    val_correct: int | None = None
    val_total: int | None = None


@dataclass(frozen=True, slots=True)
class Seconds:
    """Busy seconds of a worker for one pair. Their sum over pairs makes the utilisation."""

    load: float = 0.0
    train: float = 0.0
    evaluate: float = 0.0  # re-estimating batch norm, evaluating, the response
    write: float = 0.0

    @property
    def total(self) -> float:
        return self.load + self.train + self.evaluate + self.write


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainedPair:
    """What training a pair gives. Counts a class are in the order of the dataset's class names."""

    costs: Costs
    val_correct_by_class: tuple[int, ...]
    val_total_by_class: tuple[int, ...]
    test_correct_by_class: tuple[int, ...]
    test_total_by_class: tuple[int, ...]
    response: Tensor  # float16 (8, D)
    curve: tuple[CurvePoint, ...]
    weights: bytes  # safetensors
    weights_dtype: str = "float32"

    @property
    def val_correct(self) -> int:
        return sum(self.val_correct_by_class)

    @property
    def val_total(self) -> int:
        return sum(self.val_total_by_class)


# --- the zoo as the core sees it ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WeightsReference:
    """Where a row's weights lie: a path relative to the zoo, never an absolute one."""

    path: str
    blake2b: str
    size_bytes: int
    dtype: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Row:
    """A trained, committed pair: one row of the zoo's main table."""

    key: str
    attempt: Attempt
    identity: PairIdentity
    dataset_name: str
    source: str
    class_names: tuple[str, ...]
    costs: Costs
    val_correct_by_class: tuple[int, ...]
    val_total_by_class: tuple[int, ...]
    test_correct_by_class: tuple[int, ...]
    test_total_by_class: tuple[int, ...]
    response: Tensor | None  # float16 (8, D); None: it was not read
    curve: tuple[CurvePoint, ...]
    seconds: Seconds
    weights: WeightsReference
    choice: Choice
    versions: dict[str, str]
    worker: Worker | None = None  # None: of schema 1, which did not keep it

    @property
    def candidate(self) -> Candidate:
        return Candidate(self.identity.fingerprint, self.identity.topology)

    @property
    def val_correct(self) -> int:
        return sum(self.val_correct_by_class)

    @property
    def val_total(self) -> int:
        return sum(self.val_total_by_class)

    @property
    def val_accuracy(self) -> float:
        return self.val_correct / self.val_total

    @property
    def test_accuracy(self) -> float:
        return sum(self.test_correct_by_class) / sum(self.test_total_by_class)


@dataclass(frozen=True, kw_only=True)
class ZooSettings:
    """What a zoo keeps for life; flags that disagree with it are refused."""

    zoo_id: str  # random, drawn once: the zoo's identity wherever it lies
    preset: str  # what it was made from; the fields below say what that meant
    schema: int
    search_space: str
    width: float
    image_size: int
    recipe: dict[str, Any]  # asdict(Recipe)
    supernet: str  # hash of the starting weights
    noise: str  # hash of the Gaussian batch that gives the responses
    seed: int
    pair_mode: str = "standalone"  # of a build that asks for none
    supernet_recipe: dict[str, Any] = field(default_factory=dict)  # asdict(SupernetRecipe)


@dataclass(frozen=True, kw_only=True, eq=False)
class ZooSnapshot:
    """A zoo at one version, rows in the order of their commits."""

    uri: str
    version: int
    settings: ZooSettings
    rows: tuple[Row, ...]
    datasets: dict[str, DatasetRecord]  # by fingerprint; all datasets once seen

    @property
    def row_by_key(self) -> dict[str, Row]:
        return {row.key: row for row in self.rows}
