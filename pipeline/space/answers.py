"""What `tans search` answers with: candidates in one order, and why each stands where it does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.running.output import percent, shown
from tans_core.evaluation.intervals import wilson
from tans_core.records import Row, ZooSnapshot
from tans_core.retrieval.rank import Ranked

START = "start:"  # before the key of a row: its architecture from the zoo's starting weights
NEAREST = 5  # datasets that an answer names


@dataclass(frozen=True, kw_only=True)
class NearDataset:
    """A dataset of the zoo, and the cosine of the query to it in the space."""

    name: str
    source: str
    similarity: float


@dataclass(frozen=True, kw_only=True)
class Nearest:
    """How near the query is to the datasets, and how near strangers are; no limit has a part in it."""

    similarity: Mapping[str, float]  # by fingerprint, nearest first
    bar: float | None  # None: not known

    @classmethod
    def of(cls, fingerprints: Sequence[str], similarities: Sequence[float], bar: float | None) -> Nearest:
        pairs = sorted(zip(fingerprints, similarities, strict=True), key=lambda pair: (-pair[1], pair[0]))
        return cls(similarity=dict(pairs), bar=bar)

    def shown(self, snapshot: ZooSnapshot) -> tuple[NearDataset, ...]:
        """The first few."""
        records = [(snapshot.datasets[each], similarity) for each, similarity in self.similarity.items()]
        return tuple(
            NearDataset(name=record.name, source=record.source, similarity=similarity)
            for record, similarity in records[:NEAREST]
        )


@dataclass(frozen=True, kw_only=True)
class BeforeTraining:
    """A classifier in closed form on the network's features, of the query's training images held out by turns."""

    accuracy: float
    interval: tuple[float, float]  # 95 %, Wilson's
    correct: int
    total: int

    @classmethod
    def of(cls, correct: int, total: int) -> BeforeTraining:
        return cls(accuracy=correct / total, interval=wilson(correct, total), correct=correct, total=total)


@dataclass(frozen=True, kw_only=True)
class SearchEntry:
    """A network that may be fine-tuned on the query; accuracies from 0 to 1.

    A key with `start:` before it is a row's architecture from the zoo's starting weights, without a source: what is
    said of sources is None there.
    """

    key: str  # as `tans fine-tune --row` takes it
    dataset: str | None  # that it was trained on
    source: str | None
    similarity: float | None  # cosine of the query and the network in the space
    predicted_accuracy: float  # on the query
    before_training: BeforeTraining | None  # None: not probed
    zoo_accuracy: float | None  # in validation, on the dataset it was trained on
    zoo_chance: float | None  # what chance gives there: the share of the largest class
    why: tuple[str, ...]  # it stands where it stands
    params: int
    flops: int
    latency_ms: float | None  # on `latency_device`: the median of what was measured, else predicted by its table
    latency_predicted: bool
    memory_mb: float | None  # peak of inference, in 1,000,000 bytes; None where no limit asked for it


def entry_of(
    ranked: Ranked,
    row: Row,
    snapshot: ZooSnapshot,
    nearest: Nearest,
    probed: BeforeTraining | None,
    costs: Mapping[str, Any],
) -> SearchEntry:
    """One candidate as it is shown."""
    reasons = _of_start(nearest.bar) if ranked.is_start else _of_source(row, snapshot, nearest)
    if ranked.beyond:
        side = "above" if ranked.beyond > 0 else "below"
        reasons.append(f"predicted {100 * abs(ranked.beyond):.1f} points {side} what the predictor's error explains")
    if probed is not None:
        low, high = probed.interval
        reasons.append(
            f"before training {percent(probed.accuracy)} of {probed.total} training images "
            f"({100 * low:.0f} to {100 * high:.0f})"
        )
    return SearchEntry(
        key=f"{START}{row.key}" if ranked.is_start else row.key,
        dataset=None if ranked.is_start else row.dataset_name,
        source=None if ranked.is_start else row.source,
        similarity=ranked.similarity,
        predicted_accuracy=ranked.predicted_accuracy,
        before_training=probed,
        zoo_accuracy=None if ranked.is_start else row.val_accuracy,
        zoo_chance=None if ranked.is_start else snapshot.datasets[row.identity.fingerprint].chance,
        why=tuple(reasons),
        **costs,
    )


def _of_start(bar: float | None) -> list[str]:
    if bar is None:
        return ["no source; too few sources in the zoo to say how near one should be"]
    return [f"no source: before all that are less near than strangers are ({bar:.2f})"]


def _of_source(row: Row, snapshot: ZooSnapshot, nearest: Nearest) -> list[str]:
    name, similarity = shown(row.dataset_name), nearest.similarity[row.identity.fingerprint]
    first, most = next(iter(nearest.similarity.items()))
    place = list(nearest.similarity).index(row.identity.fingerprint) + 1
    reasons = [f"{name} is the nearest of {len(nearest.similarity)} datasets ({similarity:.2f})"]
    if place > 1:
        nearer = f"{shown(snapshot.datasets[first].name)} is nearest, {most:.2f}"
        reasons = [f"{name} is number {place} of {len(nearest.similarity)} by nearness ({similarity:.2f}; {nearer})"]
    if nearest.bar is not None and similarity < nearest.bar:
        reasons.append(f"no nearer than strangers are ({nearest.bar:.2f})")
    return reasons
