"""The demo's picture and words, on made-up rows; `make demo` itself takes minutes."""

from dataclasses import replace

import matplotlib
import pytest

from pipeline.demo import DemoSummary, Query, draw, draw_front, report
from tans_core.records import Costs, Row, ZooSnapshot
from tests.worlds import World

matplotlib.use("Agg")
from matplotlib import pyplot

# Millions of parameters and percent of validation: the second is beaten by the first, the fourth by the third.
FIGURES = [(2.0, 50), (3.0, 40), (4.0, 70), (4.5, 70), (1.0, 30)]
SUMMARY = DemoSummary(
    pairs=5,
    datasets=1,
    zoo_datasets=("dataset 0",),
    failures=0,
    workers=2,
    utilisation=0.9,
    decision_ms_median=1.0,
    hypervolume_mean=0.5,
    meta={"gallery": 1, "r_at_1": 1.0, "r_at_5": 1.0, "r_at_5_random": 1.0, "predictor_mse": 0.1},
    query=Query(
        dataset="query",
        row="0123456789",
        from_dataset="dataset 0",
        test_total=80,
        accuracy_by_epoch=(0.35, 0.25, 0.5),
        start_accuracy_by_epoch=(0.3, 0.2, 0.4),
        random_accuracy_by_epoch=(0.05, 0.1, 0.15),
    ),
    wall_s=1.0,
)


@pytest.fixture
def snapshot() -> ZooSnapshot:
    """Test accuracies and multiply-accumulates fall where validation and parameters rise."""
    world = World(datasets=1, rows_each=len(FIGURES), sources=1).snapshot()
    rows: list[Row] = []
    for row, (params, percent) in zip(world.rows, FIGURES, strict=True):
        rows.append(
            replace(
                row,
                costs=Costs(params=int(params * 1e6), flops=int(1e8 - params * 1e6)),
                val_correct_by_class=(percent,),
                val_total_by_class=(100,),
                test_correct_by_class=(100 - percent,),
                test_total_by_class=(100,),
            )
        )
    return replace(world, rows=tuple(rows))


def test_the_line_of_a_dataset_joins_what_no_other_beats_and_the_others_are_faint_dots(snapshot: ZooSnapshot):
    figure, axis = pyplot.subplots()
    draw_front(axis, "dataset 0", snapshot.rows)
    line, dots = axis.lines
    pyplot.close(figure)
    assert line.get_xydata().tolist() == [[1.0, 30.0], [2.0, 50.0], [4.0, 70.0]]
    assert (line.get_drawstyle(), line.get_linestyle(), line.get_label()) == ("steps-post", "-", "dataset 0")
    assert sorted(dots.get_xydata().tolist()) == sorted([params, float(percent)] for params, percent in FIGURES)
    assert (dots.get_linestyle(), dots.get_color()) == ("None", line.get_color()) and dots.get_alpha() < 0.5
    assert dots.get_label().startswith("_"), "no dots in the legend"


def test_the_picture_is_drawn(snapshot: ZooSnapshot, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(pyplot, "close", drawn.append)
    draw(snapshot, SUMMARY, tmp_path / "picture.png")
    _, right = drawn[0].axes
    assert right.lines[0].get_xydata().tolist() == [[0, 35], [1, 25], [2, 50]]  # 0: before training
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_the_demo_says_that_its_figures_vary():
    assert "80 test images: these figures vary from run to run" in report(SUMMARY)
    (line,) = [line for line in report(SUMMARY).splitlines() if line.startswith("found:")]
    assert line.split()[-6:] == ["35.0", "%", "25.0", "%", "50.0", "%"]  # before training, after epochs 1 and 2
