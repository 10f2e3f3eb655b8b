"""`make demo`: the whole walk on the starter datasets, ending with a table, a picture and summary.json.

The query and the recipe are fixed here, before anything is run. The query's source is nowhere in zoo or space.
Figures vary from one run to the next: with two workers the order of results decides which pair comes next.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.growing.build_zoo import BuildSummary, build_zoo
from pipeline.network.fine_tune import fine_tune
from pipeline.network.load_network import find_row
from pipeline.reading.read import read_dataset, read_datasets
from pipeline.running.output import percent, table
from pipeline.running.progress import say
from pipeline.running.threads import one_thread
from pipeline.space.answers import SearchEntry
from pipeline.space.meta_train import MetaTrainSummary, meta_train
from pipeline.space.search import search
from pipeline.zoo import Zoo
from pipeline.zoo.upkeep.verify import zoo_search_space
from tans_core.cross_modal.features import keeps_class_when_mirrored
from tans_core.evaluation.fronts import front
from tans_core.evaluation.starts import Run, run_from
from tans_core.records import ImageDataset, Row, ZooSnapshot
from tans_core.search_space.ofa_lite import lite0_backbone
from tans_core.training.fine_tune import STARTS
from tans_core.training.recipe import recipe_alone

if TYPE_CHECKING:
    from matplotlib.axes import Axes

QUERY = "starter:optical-digits"
PAIRS, WORKERS, EPOCHS, IMAGE_SIZE = 32, 2, 5, 64


@dataclass(frozen=True, kw_only=True)
class Query:
    """The network that was found, and its test accuracy by epoch from the three starts.

    Epoch 0 is before training: a classifier in closed form.
    """

    dataset: str
    row: str
    from_dataset: str
    test_total: int
    accuracy_by_epoch: tuple[float, ...]
    start_accuracy_by_epoch: tuple[float, ...]
    random_accuracy_by_epoch: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class DemoSummary:
    """runs/demo/summary.json."""

    pairs: int
    datasets: int
    zoo_datasets: tuple[str, ...]
    failures: int
    workers: int
    utilisation: float | None
    decision_ms_median: float | None
    hypervolume_mean: float
    meta: dict[str, float]
    query: Query
    wall_s: float


def demo(out: Path) -> DemoSummary:
    """Zoo, space, search, fine-tuning: what `make demo` shows. `out` is made anew where it is not there; a zoo that is
    there is gone on with."""
    began = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    query = read_dataset(QUERY, IMAGE_SIZE)
    names = [
        f"starter:{each.name}" for each in read_datasets(["starter:all"], IMAGE_SIZE) if each.source != query.source
    ]
    zoo = str(out / "zoo")
    built = build_zoo(zoo, names, pairs=PAIRS, preset_name="laptop", image_size=IMAGE_SIZE, workers=WORKERS)
    meta = meta_train(zoo, out / "space")
    found = search(QUERY, zoo, out / "space", top=1000)
    first, best = found.entries[0], next(entry for entry in found.entries if entry.dataset is not None)
    say(f"found for {query.name}: {first.key}" + ("" if first == best else f", and of the rows {best.key}"))
    say("; ".join(first.why))
    tuned = fine_tune(QUERY, zoo, first.key, out / "network", EPOCHS, overwrite=True)
    with one_thread():
        runs = three_starts(zoo, best.key, query, EPOCHS)
    snapshot = Zoo.open(zoo).snapshot()
    summary = _summary(built, meta, best, query, runs, snapshot, time.monotonic() - began)
    draw(snapshot, summary, out / "picture.png")
    (out / "summary.json").write_text(json.dumps(asdict(summary), indent=1) + "\n")
    say(f"the network is in {tuned.out}, the picture in {out / 'picture.png'}, the figures in {out / 'summary.json'}")
    return summary


def three_starts(zoo: str, key: str, query: ImageDataset, epochs: int) -> dict[str, Run]:
    """The row's architecture on the query from its own, the zoo's starting, and random weights.

    The curve begins with what each knows before training (epoch 0).
    """
    store = Zoo.open(zoo)
    row = find_row(store, key)
    search_space = zoo_search_space(store)
    recipe = replace(
        recipe_alone(row.identity.recipe), epochs=epochs, mirror=keeps_class_when_mirrored(query, lite0_backbone())
    )
    runs = {}
    for start in STARTS:
        say(f"fine-tuning on {query.name} from {start} weights")
        run = partial(
            run_from,
            start,
            search_space,
            search_space.architecture(row.identity.topology),
            store.load_weights(row),
            query,
            key=f"demo/{row.key}",
            curve_on=query.test,
            curve_at=range(1, epochs + 1),
        )
        before, after = run(replace(recipe, epochs=0)), run(recipe)
        runs[start] = replace(after, correct_by_epoch=before.correct_by_epoch + after.correct_by_epoch)
    return runs


def _summary(
    built: BuildSummary,
    meta: MetaTrainSummary,
    best: SearchEntry,
    query: ImageDataset,
    runs: dict[str, Run],
    snapshot: ZooSnapshot,
    wall_s: float,
) -> DemoSummary:
    by_epoch = {
        start: tuple(correct / run.test_total for correct in run.correct_by_epoch) for start, run in runs.items()
    }
    in_zoo = sorted({row.dataset_name for row in snapshot.rows})
    return DemoSummary(
        pairs=built.pairs,
        datasets=len(in_zoo),
        zoo_datasets=tuple(in_zoo),
        failures=built.failures,
        workers=built.workers,
        utilisation=built.utilisation,
        decision_ms_median=built.decision_ms_median,
        hypervolume_mean=built.hypervolume_mean,
        meta={
            "gallery": meta.gallery,
            "r_at_1": meta.r_at_1,
            "r_at_5": meta.r_at_5,
            "r_at_5_random": meta.r_at_5_random,
            "predictor_mse": meta.predictor_mse,
        },
        query=Query(
            dataset=query.name,
            row=best.key,
            from_dataset=best.dataset or "",
            test_total=len(query.test),
            accuracy_by_epoch=by_epoch["retrieved"],
            start_accuracy_by_epoch=by_epoch["start"],
            random_accuracy_by_epoch=by_epoch["random"],
        ),
        wall_s=wall_s,
    )


def draw(snapshot: ZooSnapshot, summary: DemoSummary, path: Path) -> None:
    """The zoo's fronts on the left, the query's fine-tuning from three starts on the right."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for name in summary.zoo_datasets:
        draw_front(left, name, [row for row in snapshot.rows if row.dataset_name == name])
    left.set(xlabel="parameters, millions", ylabel="validation accuracy, %")
    left.set_title(f"Fronts of {summary.pairs} networks on {summary.datasets} datasets")
    left.legend(fontsize=6.5, ncols=5, loc="upper center", bbox_to_anchor=(0.5, -0.16))
    query = summary.query
    epochs = range(len(query.accuracy_by_epoch))
    for curve, label in (
        (query.accuracy_by_epoch, f"the network found (of {query.from_dataset})"),
        (query.start_accuracy_by_epoch, "same architecture, the zoo's starting weights"),
        (query.random_accuracy_by_epoch, "same architecture, random weights"),
    ):
        right.plot(epochs, [100 * accuracy for accuracy in curve], marker="o", label=label)
    right.set_xticks(epochs)
    right.set(
        xlabel="epoch (0: before training)", ylabel=f"test accuracy, % ({query.test_total} images)", ylim=(0, 102)
    )
    right.set_title(f"A new dataset: {query.dataset}")
    right.legend(fontsize=8, loc="lower right")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def draw_front(axis: Axes, name: str, rows: Sequence[Row]) -> None:
    """A dataset's networks as faint dots, and the staircase through those that no other beats."""
    params = [row.costs.params / 1e6 for row in rows]
    percents = [100 * row.val_accuracy for row in rows]
    places = front(params, percents)
    (line,) = axis.plot(
        [params[place] for place in places],
        [percents[place] for place in places],
        drawstyle="steps-post",
        marker="o",
        markersize=3.5,
        linewidth=0.8,
        label=name,
    )
    axis.plot(params, percents, linestyle="none", marker="o", markersize=3.5, color=line.get_color(), alpha=0.25)


def report(summary: DemoSummary) -> str:
    """The table that `make demo` ends with."""
    query = summary.query
    curves = (query.accuracy_by_epoch, query.start_accuracy_by_epoch, query.random_accuracy_by_epoch)
    at = sorted({0, 1, 2, len(curves[0]) - 1} & {*range(len(curves[0]))})
    rows = [
        (name, *(percent(curve[epoch]) for epoch in at))
        for name, curve in zip(
            (f"found: {query.row[:8]} of {query.from_dataset}", "starting weights", "random"), curves
        )
    ]
    meta = summary.meta
    return "\n".join(
        [
            f"{summary.pairs} pairs over {summary.datasets} datasets by {summary.workers} workers, "
            f"busy {percent(summary.utilisation)}; {summary.failures} failures; {summary.wall_s:.0f} s in all",
            f"space: R@1 {percent(meta['r_at_1'])}, R@5 {percent(meta['r_at_5'])} in a gallery of {meta['gallery']} "
            f"(random {percent(meta['r_at_5_random'])})",
            table((f"{query.dataset}, test accuracy after epoch", *map(str, at)), rows),
            f"One query, {query.test_total} test images: these figures vary from run to run, because with "
            f"{summary.workers} workers the order of results decides which pair comes next.",
        ]
    )


if __name__ == "__main__":
    print(report(demo(Path("runs/demo"))))
