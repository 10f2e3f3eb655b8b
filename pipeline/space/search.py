"""`tans search`: the networks of a zoo to start from on a new dataset."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from pipeline.reading.read import read_dataset
from pipeline.running.output import shown
from pipeline.running.progress import say
from pipeline.running.threads import torch_threads
from pipeline.space.answers import NearDataset, Nearest, SearchEntry, entry_of
from pipeline.space.prices import price_rows
from pipeline.space.probing import Probing, probe_first
from pipeline.space.space_folder import Space, load_space
from pipeline.zoo import Zoo
from pipeline.zoo.show import distinct_names
from tans_core.cross_modal.encoders import facts_of
from tans_core.cross_modal.features import training_features
from tans_core.errors import ConfigError, SpaceError, WeightsError
from tans_core.records import ImageDataset, Row, ZooSnapshot
from tans_core.retrieval.constraints import Limits, RowCosts, explain_none, within
from tans_core.retrieval.known_pictures import known_pictures
from tans_core.retrieval.rank import SHORTLIST, Measured, Ranking, rank
from tans_core.search_space.ofa_lite import LITE0_SHA256, lite0_backbone

PROBED = 8  # rows, unless told otherwise: a few seconds


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """What `tans search --json` prints: feasible candidates in one order, the one to start from first."""

    query: str
    fingerprint: str
    entries: tuple[SearchEntry, ...]
    unlike: bool  # no feasible row is of a dataset nearer to the query than strangers are
    bar: float | None  # similarity of strangers, see `TrainedSpace`; None: not known
    nearest: tuple[NearDataset, ...]  # of all datasets of the space, whatever the limits
    rows_probed: int
    probe_s: float
    predicted_error: float | None  # of predicted accuracies on sources left out, root of the mean square; None: unknown
    rows_searched: int  # of the space
    rows_feasible: int  # within the limits, and with their weights
    rows_without_weights: int  # within the limits and passed over: the files are gone, or found to be of no use
    latency_device: str  # this processor with one thread, or the device of the table that was given
    latency_batch: int  # images at once that latencies and memory are of
    latency_error: tuple[float, float] | None  # relative, of the table: median, and 95 of 100; None: there is none
    rows_latency_predicted: int  # never timed on that device
    rows_without_latency: int  # neither timed nor predicted; left out where a latency is asked for
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
    probe: int = PROBED,
    max_params: float | None = None,
    max_flops: float | None = None,
    max_latency_ms: float | None = None,
    max_memory_mb: float | None = None,
    latency_table: Path | None = None,
    threads: int = 1,
) -> SearchResult:
    """Find the networks to start from on a new dataset; its training images alone are looked at.

    What is counted as known are copies among all of its pictures, by their hashes: no choice depends on it.

    Args:
        spec: one dataset.
        space: folder made by `meta_train` over this zoo, or over an earlier version of it.
        top: how many networks.
        probe: so many rows, one of each of the nearest datasets as long as there are others, and the starting weights
            in their shapes are asked what they know of the training images before they are trained, and come first
            by what they know; 0: none.
        max_params, max_flops, max_latency_ms: limits. A network that was not timed on the device counts as the table
            predicts it; without a table it is left out where a latency is asked for.
        max_memory_mb: limit on the peak of inference, in 1,000,000 bytes: weights and maps in float32.
        latency_table: made by `latency_table`, also of another device; None: the zoo's own of this processor, of one
            thread and single images, where there is one.
        threads: of torch; another number may give another order of near equals.

    Raises:
        ConfigError: `top` or a limit is not above 0, `probe` is below 0, there are not so many CPUs, or the space
            belongs to another zoo.
        DatasetError: the SPEC gives no dataset, or several.
        ZooError: there is no zoo.
        SpaceError: there is no space, or it is damaged.
        NoFeasibleRow: no network meets the limits; names the nearest.
        WeightsError: none that meets them has its weights.
    """
    with torch_threads(threads):
        limits = Limits(
            max_params=max_params, max_flops=max_flops, max_latency_ms=max_latency_ms, max_memory_mb=max_memory_mb
        )
        found = _search(spec, zoo, space, top, probe, limits, latency_table)
    return replace(found, threads=threads)


def _search(
    spec: str,
    zoo: str,
    space: Path,
    top: int,
    probe: int,
    limits: Limits,
    latency_table: Path | None,
) -> SearchResult:
    if top < 1:
        raise ConfigError(f"--top must be at least 1, got {top}")
    if probe < 0:
        raise ConfigError(f"--probe must be at least 0, got {probe}")
    store, learned = Zoo.open(zoo), load_space(Path(space))
    snapshot = store.snapshot()
    rows = _rows_of_space(snapshot, learned, space)
    priced = price_rows(store, rows, latency_table, memory=limits.max_memory_mb is not None)
    allowed_R = within(limits, priced.costs)
    if not allowed_R.any():
        raise explain_none(limits, priced.costs, learned.index.keys, store.uri, priced.device)
    without_weights = _pass_over(store, rows, allowed_R)
    dataset = read_dataset(spec, store.settings.image_size)
    began = time.perf_counter()
    features_ND, labels_N = training_features(dataset, lite0_backbone())
    extracted = time.perf_counter()
    measured = _measured(snapshot, rows, learned.fingerprints, priced.costs)
    ranking, nearest = _ranking(
        learned, measured, dataset, features_ND, labels_N, allowed_R, top + (SHORTLIST if probe else 0)
    )
    milliseconds = 1000 * (time.perf_counter() - extracted)
    unseen = len(snapshot.rows) - len(rows)
    if unseen:
        say(
            f"{unseen} rows of the zoo are younger than the space and were not searched: "
            "run `tans meta-train` again to take them in"
        )
    if limits.max_latency_ms is not None:
        priced.say_where_latencies_are_from()
    known = _known_pictures(dataset, store)
    probing = Probing(order=ranking.head)
    if probe:
        probing = probe_first(store, rows, ranking.head, nearest, dataset, probe)
        if not probing.order:
            raise WeightsError(
                f"the weights of all {len(probing.lost)} feasible rows of {store.uri} are of no use, and its starting "
                "weights are not to be had: put them back from a copy of the zoo"
            )
    return SearchResult(
        query=dataset.name,
        fingerprint=dataset.fingerprint,
        entries=tuple(
            entry_of(
                each,
                rows[each.place],
                snapshot,
                nearest,
                probing.before.get(each),
                priced.of(each.place),
            )
            for each in probing.order[:top]
        ),
        unlike=not ranking.is_known,
        bar=learned.bar,
        nearest=nearest.shown(snapshot),
        rows_probed=sum(not each.is_start for each in probing.before),
        probe_s=probing.wall_s,
        predicted_error=learned.error,
        rows_searched=len(rows),
        rows_feasible=int(allowed_R.sum()) - len(probing.lost),
        rows_without_weights=without_weights + len(probing.lost),
        latency_device=priced.device,
        latency_batch=priced.batch,
        latency_error=priced.error,
        rows_latency_predicted=int(priced.predicted_R.sum()),
        rows_without_latency=int(priced.costs.latency_ms_R.isnan().sum()),
        rows_unseen=unseen,
        milliseconds=milliseconds,
        features_s=extracted - began,
        known_pictures=known,
    )


def _ranking(
    learned: Space,
    measured: Measured,
    dataset: ImageDataset,
    features_ND: Tensor,
    labels_N: Tensor,
    allowed_R: Tensor,
    top: int,
) -> tuple[Ranking, Nearest]:
    with torch.no_grad():
        query_E = learned.model.embed_query(features_ND)
    facts_X = facts_of(features_ND, labels_N, dataset.chance, len(dataset.class_names))
    similarity_K = learned.dataset_KE @ query_E
    ranking = rank(
        learned.model,
        learned.index,
        measured,
        query_E,
        facts_X,
        similarity_K,
        allowed_R,
        top,
        error=learned.error,
        bar=learned.bar,
    )
    return ranking, Nearest.of(learned.fingerprints, similarity_K.tolist(), learned.bar)


def _rows_of_space(snapshot: ZooSnapshot, learned: Space, folder: Path) -> list[Row]:
    """The zoo's rows in the order of the index.

    Raises:
        ConfigError: the space is of another zoo, or of a newer state of it.
        SpaceError: it is of other features or networks.
    """
    identity = learned.identity
    if identity.zoo_id != snapshot.settings.zoo_id:
        raise ConfigError(
            f"the space in {folder} was learned over the zoo {identity.zoo_id} and {snapshot.uri} is "
            f"{snapshot.settings.zoo_id}: give that zoo, or run `tans meta-train` over this one"
        )
    if identity.backbone != LITE0_SHA256:
        raise SpaceError(
            f"the space in {folder} was learned on features of the backbone {identity.backbone} and this tans has "
            f"{LITE0_SHA256}: run `tans meta-train` again"
        )
    kept = snapshot.settings
    if (identity.search_space, identity.image_size) != (kept.search_space, kept.image_size):
        raise SpaceError(
            f"the space in {folder} was learned on {identity.search_space} at {identity.image_size} px and the zoo has "
            f"{kept.search_space} at {kept.image_size} px: run `tans meta-train` again"
        )
    by_key = snapshot.row_by_key
    missing = [key for key in learned.index.keys if key not in by_key]
    if missing:
        raise ConfigError(
            f"{len(missing)} rows of the space in {folder} are not in {snapshot.uri}, {missing[0]} first: the zoo is "
            "an older copy; give the newer one, or run `tans meta-train` over this one"
        )
    return [by_key[key] for key in learned.index.keys]


def _pass_over(store: Zoo, rows: Sequence[Row], allowed_R: Tensor) -> int:
    """Take rows without their weights out of the allowed ones; says how many, and returns it.

    Raises:
        WeightsError: no row is left.
    """
    without = [place for place in allowed_R.nonzero().squeeze(1).tolist() if not store.has_weights(rows[place])]
    if not without:
        return 0
    allowed_R[without] = False
    verify = f"`tans zoo verify --zoo {shlex.quote(store.uri)}` names them"
    found = f"weights that are gone or of another size, {rows[without[0]].key} first"
    if not allowed_R.any():
        raise WeightsError(
            f"all {len(without)} feasible rows of {store.uri} have {found}: put the weights folder back from a copy "
            f"of the zoo; {verify}"
        )
    say(f"{len(without)} rows have {found}, and were passed over: {verify}")
    return len(without)


def _measured(snapshot: ZooSnapshot, rows: Sequence[Row], fingerprints: Sequence[str], costs: RowCosts) -> Measured:
    place = {fingerprint: number for number, fingerprint in enumerate(fingerprints)}
    return Measured(
        dataset_R=torch.tensor([place[row.identity.fingerprint] for row in rows]),
        correct_R=torch.tensor([row.val_correct for row in rows]),
        total_R=torch.tensor([row.val_total for row in rows]),
        params_R=costs.params_R,
        chance_K=torch.tensor([snapshot.datasets[each].chance for each in fingerprints], dtype=torch.float64),
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
