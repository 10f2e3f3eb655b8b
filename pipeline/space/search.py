"""`tans search`: the networks of a zoo to start from on a new dataset."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.reading.read import read_dataset
from pipeline.running.output import shown
from pipeline.running.progress import say
from pipeline.running.threads import torch_threads
from pipeline.space.space_folder import Space, load_space
from pipeline.zoo import Zoo
from pipeline.zoo.latency import device_name
from pipeline.zoo.show import distinct_names
from tans_core.cross_modal.encoders import facts_of
from tans_core.cross_modal.features import extract_features
from tans_core.errors import ConfigError, SpaceError
from tans_core.records import ImageDataset, Row
from tans_core.retrieval.constraints import Limits, RowCosts, explain_none, within
from tans_core.retrieval.known_pictures import known_pictures
from tans_core.retrieval.rank import Ranked, rank
from tans_core.search_space.ofa_lite import LITE0_SHA256, lite0_backbone


@dataclass(frozen=True, kw_only=True)
class SearchEntry:
    """A network of the zoo that may be fine-tuned on the query; accuracies from 0 to 1."""

    key: str
    dataset: str  # that it was trained on
    source: str
    similarity: float  # cosine of the query and the network in the space
    predicted_accuracy: float  # on the query
    zoo_accuracy: float  # in validation, on its own dataset
    params: int
    flops: int
    latency_ms: float | None  # median on this machine; None where it was not measured here


@dataclass(frozen=True, kw_only=True)
class StartingWeights:
    """The candidate without a source: the best entry's architecture from the zoo's starting weights.

    The space predicts nothing for it, because no row was left untrained; fine-tuning both and comparing them on
    validation images says whether the source helps.
    """

    architecture_of: str  # key of the row
    supernet: str  # hash of the starting weights
    params: int
    flops: int
    latency_ms: float | None


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """What `tans search --json` prints: the nearest feasible rows, best predicted accuracy first."""

    query: str
    fingerprint: str
    entries: tuple[SearchEntry, ...]
    starting_weights: StartingWeights
    rows_searched: int  # of the space
    rows_feasible: int
    rows_without_latency: int  # on this machine; left out where a latency is asked for
    rows_unseen: int  # of the zoo, younger than the space
    milliseconds: float  # embedding the query's features, limits, search, prediction
    features_s: float  # reading the pictures through the frozen backbone
    known_pictures: dict[str, int]  # how many of the query's pictures stand in which datasets of the zoo
    threads: int = 1  # of torch


def search(
    spec: str,
    zoo: str,
    space: Path,
    top: int = 10,
    max_params: float | None = None,
    max_flops: float | None = None,
    max_latency_ms: float | None = None,
    threads: int = 1,
) -> SearchResult:
    """Find the networks to start from on a new dataset; its training images alone are looked at.

    What is counted as known are copies among all of its pictures, by their hashes: no choice depends on it.

    Args:
        spec: one dataset.
        space: folder made by `meta_train` over this zoo, or over an earlier version of it.
        top: how many networks.
        max_params, max_flops, max_latency_ms: limits; a network not timed on this machine is left out of the last.
        threads: of torch; another number may give another order of near equals.

    Raises:
        ConfigError: `top` or a limit is not above 0, there are not so many CPUs, or the space belongs to another zoo.
        DatasetError: the SPEC gives no dataset, or several.
        ZooError: there is no zoo.
        SpaceError: there is no space, or it is damaged.
        NoFeasibleRow: no network meets the limits; names the nearest.
    """
    with torch_threads(threads):
        found = _search(spec, zoo, space, top, max_params, max_flops, max_latency_ms)
    return replace(found, threads=threads)


def _search(
    spec: str,
    zoo: str,
    space: Path,
    top: int,
    max_params: float | None,
    max_flops: float | None,
    max_latency_ms: float | None,
) -> SearchResult:
    if top < 1:
        raise ConfigError(f"--top must be at least 1, got {top}")
    limits = Limits(max_params=max_params, max_flops=max_flops, max_latency_ms=max_latency_ms)
    store, learned = Zoo.open(zoo), load_space(Path(space))
    rows = _rows_of_space(store, learned, space)
    device = device_name()
    latency_ms = {each.key: each.p50_ms for each in store.latencies() if each.device == device}
    costs = RowCosts.of(
        [row.costs.params for row in rows],
        [row.costs.flops for row in rows],
        [latency_ms.get(row.key) for row in rows],
    )
    allowed_R = within(limits, costs)
    if not allowed_R.any():
        raise explain_none(limits, costs, learned.index.keys, store.uri, device)
    dataset = read_dataset(spec, store.settings.image_size)
    began = time.perf_counter()
    features = extract_features(dataset, lite0_backbone())
    extracted = time.perf_counter()
    query_E = learned.model.embed_query(features.train_ND).detach()
    facts_X = facts_of(features.train_ND, features.train_labels_N, dataset.chance, len(dataset.class_names))
    ranked = rank(learned.model, learned.index, query_E, facts_X, allowed_R, top)
    milliseconds = 1000 * (time.perf_counter() - extracted)
    unseen = store.row_count() - len(rows)
    without_latency = sum(row.key not in latency_ms for row in rows)
    _say_what_is_left_out(unseen, without_latency if max_latency_ms is not None else 0)
    known = _known_pictures(dataset, store)
    best = rows[ranked[0].place]
    return SearchResult(
        query=dataset.name,
        fingerprint=dataset.fingerprint,
        entries=tuple(_entry(each, rows[each.place], latency_ms) for each in ranked),
        starting_weights=StartingWeights(
            architecture_of=best.key,
            supernet=best.identity.supernet,
            params=best.costs.params,
            flops=best.costs.flops,
            latency_ms=latency_ms.get(best.key),
        ),
        rows_searched=len(rows),
        rows_feasible=int(allowed_R.sum()),
        rows_without_latency=without_latency,
        rows_unseen=unseen,
        milliseconds=milliseconds,
        features_s=extracted - began,
        known_pictures=known,
    )


def _rows_of_space(store: Zoo, learned: Space, folder: Path) -> list[Row]:
    """The zoo's rows in the order of the index.

    Raises:
        ConfigError: the space is of another zoo, or of a newer state of it.
        SpaceError: it is of other features.
    """
    identity = learned.identity
    if identity.zoo_id != store.settings.zoo_id:
        raise ConfigError(
            f"the space in {folder} was learned over the zoo {identity.zoo_id} and {store.uri} is "
            f"{store.settings.zoo_id}: give that zoo, or run `tans meta-train` over this one"
        )
    if identity.backbone != LITE0_SHA256:
        raise SpaceError(
            f"the space in {folder} was learned on features of the backbone {identity.backbone} and this tans has "
            f"{LITE0_SHA256}: run `tans meta-train` again"
        )
    by_key = store.snapshot().row_by_key
    missing = [key for key in learned.index.keys if key not in by_key]
    if missing:
        raise ConfigError(
            f"{len(missing)} rows of the space in {folder} are not in {store.uri}, {missing[0]} first: the zoo is an "
            "older copy; give the newer one, or run `tans meta-train` over this one"
        )
    return [by_key[key] for key in learned.index.keys]


def _entry(ranked: Ranked, row: Row, latency_ms: Mapping[str, float]) -> SearchEntry:
    return SearchEntry(
        key=row.key,
        dataset=row.dataset_name,
        source=row.source,
        similarity=ranked.similarity,
        predicted_accuracy=ranked.predicted_accuracy,
        zoo_accuracy=row.val_accuracy,
        params=row.costs.params,
        flops=row.costs.flops,
        latency_ms=latency_ms.get(row.key),
    )


def _known_pictures(dataset: ImageDataset, store: Zoo) -> dict[str, int]:
    records = store.datasets()
    names = distinct_names(records)
    known = known_pictures(dataset.image_hashes, {names[key]: each.image_hashes for key, each in records.items()})
    for name, count in known.items():
        say(f"{count:,} of your {len(dataset.images):,} pictures are in {shown(name)}")
    if older := sum(not each.image_hashes for each in records.values()):
        say(f"{older} datasets of the zoo were recorded before hashes of pictures were kept: not looked at for copies")
    return known


def _say_what_is_left_out(unseen: int, without_latency: int) -> None:
    if unseen:
        say(
            f"{unseen} rows of the zoo are younger than the space and were not searched: "
            "run `tans meta-train` again to take them in"
        )
    if without_latency:
        say(f"{without_latency} rows were never timed on this machine and are left out of a search by latency")
