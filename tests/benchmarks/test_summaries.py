"""The figures of the README, worked by hand from a few made-up runs whose sides contradict each other."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from benchmarks import meta_test, pool, reading, soak, space
from benchmarks.soak import End, Notes, Sample
from benchmarks.starter_weights import Judged
from benchmarks.starter_weights import summary_of as starter_summary
from benchmarks.training import engine
from pipeline.growing.build_zoo import BuildSummary
from tans_core.records import Row
from tests.trials_report import Report
from tests.worlds import World

# --- are the networks that are found good? -----------------------------------------------------------


# Test accuracy in percent after 5 epochs of the rate that is better on validation, seed by seed.
FOUND = {"a": (80, 70, 60), "b": (50, 50, 50), "c": (60, 64, 68)}
START = {"a": (70, 60, 50), "b": (52, 52, 52), "c": (60, 60, 60)}
TEST_IMAGES = {"a": 200, "b": 100, "c": 50}


def fine_tunings() -> list[dict]:
    """The rate that is worse on validation is always the better one on test, by a lot."""
    runs = []
    for name in FOUND:
        for seed in range(3):
            of_sides = {
                ("retrieved", 5): (FOUND[name][seed], 0),
                ("start", 5): (START[name][seed], 1),
                ("random", 5): (20, 0),
                ("random", 15): (40, 1),
            }
            for (start, epochs), (percent, chosen_rate) in of_sides.items():
                for number, rate in enumerate((0.015, 0.04)):
                    chosen = number == chosen_rate
                    runs.append(
                        {
                            "dataset": name,
                            "start": start,
                            "epochs": epochs,
                            "seed": seed,
                            "rate": rate,
                            "row": "k",
                            "from_dataset": "of the zoo",
                            "val_correct": 30 if chosen else 29,
                            "val_total": 40,
                            "test_correct": TEST_IMAGES[name] * (percent if chosen else 98) // 100,
                            "test_total": TEST_IMAGES[name],
                        }
                    )
    return runs


def test_the_rate_of_each_side_is_chosen_on_validation_and_test_is_read_for_it_alone():
    by_dataset = meta_test.summary(fine_tunings())["datasets"]
    assert {name: tuple(each["retrieved_5_epochs"]) for name, each in by_dataset.items()} == FOUND
    assert {name: tuple(each["start_5_epochs"]) for name, each in by_dataset.items()} == START
    assert {tuple(each["random_15_epochs"]) for each in by_dataset.values()} == {(40, 40, 40)}


def test_of_rates_that_are_equal_on_validation_the_first_is_taken_whatever_test_says():
    runs = [{**run, "val_correct": 30} for run in fine_tunings()]  # the first rate: found as before, start at 98
    by_dataset = meta_test.summary(runs)["datasets"]
    assert by_dataset["a"]["retrieved_5_epochs"] == [80, 70, 60]
    assert by_dataset["a"]["start_5_epochs"] == [98, 98, 98]


def test_means_are_of_datasets_however_many_images_they_have():
    summary = meta_test.summary(fine_tunings())
    assert summary["retrieved_5_epochs_mean"] == pytest.approx((70 + 50 + 64) / 3)
    assert summary["start_5_epochs_mean"] == pytest.approx((60 + 52 + 60) / 3)
    assert (summary["random_5_epochs_mean"], summary["random_15_epochs_mean"]) == pytest.approx((20, 40))


def test_differences_are_paired_by_seed_and_their_interval_is_students():
    by_dataset = meta_test.summary(fine_tunings())["datasets"]
    differences = {name: each["retrieved_over_start_points"] for name, each in by_dataset.items()}
    intervals = {name: each["retrieved_over_start_interval"] for name, each in by_dataset.items()}
    assert differences == pytest.approx({"a": 10, "b": -2, "c": 4})
    assert intervals["a"] == pytest.approx((10, 10))  # 10, 10, 10, though both sides vary by 20
    assert intervals["b"] == pytest.approx((-2, -2))
    # 0, 4, 8: a deviation of 4; Student's t with two degrees of freedom is 4.303; 4.303 * 4 / sqrt(3) = 9.937
    assert intervals["c"] == pytest.approx((4 - 9.937, 4 + 9.937), abs=1e-3)
    assert {name for name, each in by_dataset.items() if each["below_start_beyond_interval"]} == {"b"}


def test_the_interval_of_the_whole_is_over_datasets_not_over_their_seeds():
    summary = meta_test.summary(fine_tunings())
    assert summary["retrieved_over_start_points"] == pytest.approx(4)
    # 10, -2, 4: a deviation of 6; 4.303 * 6 / sqrt(3) = 14.906. Nine values would give 2.306 * 5.568 / 3 = 4.28.
    assert summary["retrieved_over_start_interval"] == pytest.approx((4 - 14.906, 4 + 14.906), abs=1e-3)


# --- is busy fast? ----------------------------------------------------------------------------------


def built(wall_s: float) -> BuildSummary:
    return BuildSummary(
        pair_mode="standalone",
        pairs=5,
        pairs_asked=5,
        failures=0,
        workers=2,
        utilisation=0.9,
        decision_ms_median=1.0,
        decision_ms_p95=2.0,
        refit_s=(),
        costs=("params", "flops"),
        hypervolume_mean=0.5,
        hypervolume_mean_test=0.4,
        nodes=1,
        stopped_by=None,
        exhausted=False,
        wall_s=wall_s,
    )


def rows_of(figures: list[tuple[float | None, int, int]]) -> list[Row]:
    """Rows by what was predicted before training, and right of 100 in validation and in test."""
    rows = World(datasets=len(figures), rows_each=1).snapshot().rows
    return [
        replace(
            row,
            choice=replace(row.choice, predicted_mean=predicted),
            val_correct_by_class=(validation,),
            val_total_by_class=(100,),
            test_correct_by_class=(test,),
            test_total_by_class=(100,),
        )
        for row, (predicted, validation, test) in zip(rows, figures, strict=True)
    ]


def test_throughput_is_that_of_the_build_over_that_of_the_bare_loop():
    summary = pool.summary(built(wall_s=100), 80, [])  # the same pairs in 100 s and, bare, in 80
    assert summary["throughput_vs_bare"] == pytest.approx(0.8)
    assert (summary["build_s"], summary["bare_s"], summary["utilisation"]) == (100, 80, 0.9)


def test_rank_correlation_is_of_predictions_with_validation_over_the_rows_that_have_one():
    # Ranks 1 2 3 4 against 2 1 4 3: 1 - 6 * 4 / (4 * 15) = 0.6. Test is ranked the other way round: -0.6.
    figures = [(0.1, 20, 80), (0.5, 10, 90), (None, 99, 0), (0.51, 90, 10), (0.9, 80, 20)]
    summary = pool.summary(built(100), 80, rows_of(figures))
    assert summary["predicted_rank_correlation"] == pytest.approx(0.6)
    assert summary["predicted_pairs"] == 4


def test_fewer_than_three_predictions_have_no_rank_correlation():
    assert pool.summary(built(100), 80, rows_of([(0.1, 1, 1), (0.2, 2, 2)]))["predicted_rank_correlation"] is None


# --- days in an hour --------------------------------------------------------------------------------

ENDS = [
    End(signal="SIGKILL", rows=45, status=-9, took_s=0.1),
    End(signal="SIGTERM", rows=50, status=0, took_s=2.0),
    End(signal="SIGINT", rows=55, status=130, took_s=2.0),
]


def test_growth_is_the_median_of_the_last_tenth_over_that_of_the_second():
    # Of 100 rows: the first tenth warms up, 10 to 19 are the second, from 90 on is the last; outliers do not count.
    decision_ms = [(0, 500.0), (9, 500.0), (10, 10.0), (15, 20.0), (19, 900.0), (50, 1.0), (90, 30.0), (100, 50.0)]
    summary = soak.summary(100, ["k"] * 100, ENDS, {"decision_ms": decision_ms, "actor_rss": [(15, 7.0)]})
    assert summary["second_and_last_tenth"] == {"decision_ms": (20.0, 40.0), "actor_rss": None}
    assert summary["decision_growth"] == pytest.approx(2.0)
    assert summary["actor_rss_growth"] is None


def test_a_key_that_stands_twice_is_seen():
    summary = soak.summary(4, ["a", "b", "b", "c"], ENDS, {})
    assert (summary["pairs"], summary["rows"], summary["keys"]) == (4, 4, 3)


@pytest.mark.parametrize(
    "ends", [[], ENDS[:2], [ENDS[0], replace(ENDS[1], status=1), ENDS[2]], [*ENDS[:2], replace(ENDS[2], status=-9)]]
)
def test_ends_are_as_promised_only_where_each_was_seen_with_its_status(ends: list[End]):
    assert soak.summary(1, ["a"], ENDS, {})["ends_as_promised"]
    assert not soak.summary(1, ["a"], ends, {})["ends_as_promised"]


def test_a_sample_without_an_actor_counts_for_the_driver_alone():
    samples = [Sample(rows=1, driver_rss=10, actor_rss=None), Sample(rows=2, driver_rss=20, actor_rss=5.0)]
    assert list(soak.of_samples(samples, lambda each: each.driver_rss)) == [(1, 10), (2, 20)]
    assert list(soak.of_samples(samples, lambda each: each.actor_rss)) == [(2, 5.0)]


def test_what_was_noted_before_a_soak_was_cut_is_there_when_it_goes_on(tmp_path: Path):
    notes = Notes(tmp_path / "soak.jsonl")
    notes.sample(Sample(rows=3, driver_rss=10, actor_rss=None))
    notes.end(ENDS[0])
    again = Notes(tmp_path / "soak.jsonl")
    assert (again.samples, again.ends) == ([Sample(rows=3, driver_rss=10, actor_rss=None)], [ENDS[0]])


@pytest.fixture
def sleeper() -> Iterator[psutil.Process]:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield psutil.Process(process.pid)
    process.kill()
    process.communicate()


def test_a_process_that_is_alive_is_left_over_and_one_that_ended_is_not(sleeper: psutil.Process):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    gone = psutil.Process(ended.pid)
    ended.wait()
    assert soak.left_over({sleeper, psutil.Process(), gone}, wait_s=0.1) == 2


# --- how fast are pictures read? ----------------------------------------------------------------------


def test_ratios_are_the_others_median_over_ours_and_the_cache_stands_apart():
    seconds = {
        "pillow": (8.0, 6.0, 100.0),
        "image_folder": (4.0, 6.0, 5.0),
        "folder_cold": (1.0, 4.0, 9.0),
        "folder_cached": (0.5, 0.25, 0.1),
        "parquet_cold": (2.0, 2.0, 2.0),
        "parquet_cached": (0.1, 0.1, 0.1),
    }
    runs = {name: [{"seconds": each, "peak_bytes": 7} for each in rounds] for name, rounds in seconds.items()}
    summary = reading.summary(runs, 1000)
    assert summary["cold_vs_pillow_ratio"] == pytest.approx(8 / 4)
    assert summary["parquet_vs_pillow_ratio"] == pytest.approx(8 / 2)
    assert summary["cold_vs_image_folder_ratio"] == pytest.approx(5 / 4)
    assert (summary["cached_s"], summary["parquet_cached_s"], summary["rounds"]) == (0.25, 0.1, 3)
    assert summary["pictures_per_s"]["folder_cold"] == pytest.approx(250)


# --- the table of the trials ------------------------------------------------------------------------


def told(report: Report, name: str, when: str, outcome: str, seen: str | None = None, error: str | None = None) -> None:
    """Hand over what pytest says of one phase of one test."""
    report.pytest_runtest_logreport(
        pytest.TestReport(
            nodeid=f"tests/trials/test_stops.py::test_{name}",
            location=("", 0, ""),
            keywords={},
            outcome=outcome,  # type: ignore[arg-type]
            longrepr=error,
            when=when,  # type: ignore[arg-type]
            user_properties=[("seen", seen)] if seen else [],
            duration=1.26,
        )
    )


class Lines(list):
    """Stands for the terminal, which pytest gives."""

    def write_line(self, line: str) -> None:
        self.append(line)


def test_the_report_tells_each_scenario_by_what_was_seen_and_keeps_those_of_earlier_runs(tmp_path: Path):
    out = tmp_path / "trials.json"
    out.write_text(json.dumps([{"scenario": "of before"}, {"scenario": "e1 it holds", "outcome": "failed"}]))
    report, lines = Report(out), Lines()
    for when in ("setup", "call", "teardown"):
        told(report, "e1_it_holds", when, "passed", seen="status 0")
    told(report, "e2_it_breaks", "call", "failed", seen="status 0", error="assert 1 == 0\nE  it was 1")
    told(report, "e3_never_begun", "setup", "failed", error="no room")
    report.pytest_terminal_summary(lines)  # type: ignore[arg-type]
    assert json.loads(out.read_text()) == [
        {"scenario": "of before"},
        {"scenario": "e1 it holds", "outcome": "passed", "seen": "status 0", "seconds": 1.3},
        {"scenario": "e2 it breaks", "outcome": "failed", "seen": "E  it was 1", "seconds": 1.3},
        {"scenario": "e3 never begun", "outcome": "failed", "seen": "no room", "seconds": 1.3},
    ]
    assert lines[0].startswith("passed") and lines[0].endswith("e1 it holds: status 0")
    assert [line.partition(" ")[0] for line in lines] == ["passed", "failed", "failed", "written"]


# --- the training loop beside a bare one and a tutorial's -----------------------------------------------


def test_engine_ratios_are_of_one_round_and_medians_over_rounds():
    """A machine that halves its speed between rounds changes no ratio; one slow turn of one side counts for nothing."""
    fast = engine.Round(network="small", engine=200, bare=200, tutorial=50)
    slow = engine.Round(network="small", engine=90, bare=100, tutorial=25)
    disturbed = engine.Round(network="small", engine=100, bare=100, tutorial=1)
    large = [engine.Round(network="large", engine=81, bare=100, tutorial=81)] * 3
    said = engine.summary([fast, *large, slow, disturbed])
    assert said["engine_networks"]["small"] == {"images_per_s": 100, "vs_bare": 1, "vs_tutorial": 4}
    assert said["engine_vs_bare_ratio"] == pytest.approx(0.9)  # of 1 and 0.81
    assert said["engine_vs_tutorial_ratio"] == pytest.approx(2)  # of 4 and 1
    assert said["engine_rounds"] == 3


def test_steps_that_warm_up_are_not_counted():
    began = [0.0, 10.0, 20.0, 30.0, 30.5, 31.0]
    assert engine._per_second(began, batch_size=32) == 64


def test_starter_weights_are_compared_on_the_datasets_that_all_sides_were_judged_on():
    accuracies = {  # of two datasets; the third is judged on one side alone
        ("starter", "smallest"): {"a": 0.7, "b": 0.5, "c": 0.9},
        ("lite0", "smallest"): {"a": 0.6, "b": 0.5},
        ("starter", "random"): {"a": 0.8, "b": 0.4},
        ("lite0", "random"): {"a": 0.9, "b": 0.5},
    }
    judged = [
        Judged(start, network, dataset, accuracy)
        for (start, network), found in accuracies.items()
        for dataset, accuracy in found.items()
    ]
    summary = starter_summary(judged)
    assert summary["datasets"] == 2
    assert (summary["starter_smallest"], summary["lite0_smallest"]) == pytest.approx((60, 55))
    assert summary["gain_smallest_points"] == pytest.approx(5)
    assert summary["gain_random_points"] == pytest.approx(-10)


# --- does a probe foretell a fine-tuning? ------------------------------------------------------------


def test_a_probe_is_judged_by_ranks_within_a_query_and_rows_beside_their_starts():
    """Of 100 images each. In `a` the order of rows is kept, in `b` it is turned round; `a` is far easier."""
    rights = {  # before and after: of rows, then of the starting weights in their shapes
        "a": [(80, 90), (70, 85), (60, 80), (90, 82), (90, 86), (75, 81)],
        "b": [(20, 10), (15, 20), (10, 30), (12, 18), (12, 18), (30, 18)],
    }
    runs = [
        {
            "query": query,
            "row": str(number % 3),
            "start": "retrieved" if number < 3 else "start",
            "probe_correct": before,
            "probe_total": 100,
            "test_correct": after,
            "test_total": 100,
        }
        for query, pairs in rights.items()
        for number, (before, after) in enumerate(pairs)
    ]
    found = space.foretold(runs)
    assert found["couples"] == 6
    assert found["spearman_of_rows"] == {"a": pytest.approx(1), "b": pytest.approx(-1)}
    assert found["spearman_of_rows_mean"] == pytest.approx(0)
    # Means of rows minus starts: a (70 - 85), b (15 - 18); after: a (85 - 83), b (20 - 18)
    assert found["row_over_start_before_points"] == pytest.approx((-15 - 3) / 2)
    assert found["row_over_start_after_points"] == pytest.approx((2 + 2) / 2)


def test_equal_values_share_their_ranks():
    # Ranks 1, 2.5, 2.5, 4 and 1, 2, 3, 4: 4.5 / sqrt(4.5 * 5)
    assert space.spearman([1, 2, 2, 3], [1, 2, 3, 4]) == pytest.approx(4.5 / (4.5 * 5) ** 0.5)
    assert space.spearman([1, 1, 1], [1, 2, 3]) == 0
