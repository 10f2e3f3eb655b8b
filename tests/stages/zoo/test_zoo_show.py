"""`tans zoo show`: what is in a zoo, told apart."""

from dataclasses import replace
from pathlib import Path

import torch
from zoo_examples import DATASETS, dataset_record, new_zoo, outcome

from pipeline.cli import run
from pipeline.zoo.latency import Latency, device_name
from pipeline.zoo.show import show_zoo
from tans_core.records import Candidate
from tans_core.search_space.latency import LatencyTable, PartTimes, Setting
from tans_core.search_space.topology import Layout
from tans_core.training.weights import encode_weights


def test_two_datasets_of_one_name_are_told_apart(tmp_path: Path):
    zoo = new_zoo(tmp_path / "zoo", rows=1)
    assert [row.dataset for row in show_zoo(zoo.uri).rows] == ["Vögel & Co"]
    twin = zoo.record_dataset(dataset_record("f2" * 16))
    zoo.record_dataset(dataset_record("f3" * 16, "another"))
    job = outcome(1).job
    identity = replace(job.identity, fingerprint=twin.fingerprint)
    choice = replace(job.choice, candidate=Candidate(twin.fingerprint, identity.topology))
    its = replace(outcome(1), job=replace(job, key=identity.key, identity=identity, choice=choice))
    zoo.commit([its], {**DATASETS, twin.fingerprint: twin})
    assert {row.dataset for row in show_zoo(zoo.uri).rows} == {"Vögel & Co (f1f1f1)", "Vögel & Co (f2f2f2)"}


def test_bytes_are_those_of_the_weights_and_a_shared_file_counts_once(tmp_path: Path, capfd):
    zoo = new_zoo(tmp_path / "zoo", rows=1)
    zoo.commit([outcome(number, weights=encode_weights({"w": torch.ones(9)})) for number in (1, 2)], DATASETS)
    files = [path.stat().st_size for path in (tmp_path / "zoo" / "weights").rglob("*.safetensors")]
    shown = show_zoo(zoo.uri)
    assert len(files) == 2 and shown.weights_bytes == sum(files)
    assert sorted({row.weights_bytes for row in shown.rows}) == sorted(files)
    assert {row.weights_dtype for row in shown.rows} == {"float32"}
    assert run(["zoo", "show", "--zoo", zoo.uri]) == 0
    said = capfd.readouterr().out
    assert (
        f"weights {sum(files) / 1e6:.1f} MB" in said
        and " bytes " in said
        and all(f" {size} " in said for size in files)
    )


def test_latencies_are_of_this_machine_measured_or_predicted_and_said(tmp_path: Path, capfd):
    zoo = new_zoo(tmp_path / "zoo", rows=3)
    first, second, third = (row.key for row in zoo.snapshot().rows)

    def told() -> dict[str, tuple[float | None, bool]]:
        return {row.key: (row.latency_ms, row.latency_predicted) for row in show_zoo(zoo.uri).rows}

    zoo.write_latencies([Latency(second, "elsewhere", 1, 9.0, 9.0, 9.0, 5)])
    assert told() == {first: (None, False), second: (9.0, False), third: (None, False)}
    setting = Setting(device=device_name(), batch=1, search_space="ofa-lite", width=1.0, image_size=32)
    table = LatencyTable(
        setting=setting,
        layout=Layout((0, 1), 0, *3 * (tuple(range(8)),)),  # takes the examples' topologies
        parts=PartTimes(stem_ms=4.0, head_ms=0, class_ms=0.5, block_ms_BVV=torch.zeros(1, 9, 9).double()),
        slope=1.0,
        intercept_ms=0.0,
        unseen=30,
        error_median=0.0,
        error_p95=0.0,
    )
    zoo.write_latency_table(table)
    zoo.write_latencies([Latency(first, device_name(), 1, 2.0, 2.0, 2.0, 5)])
    assert told() == {first: (2.0, False), second: (4.5, True), third: (4.5, True)}  # of three classes
    assert run(["zoo", "show", "--zoo", zoo.uri]) == 0
    assert capfd.readouterr().out.count("4.5 predicted") == 2
    (tmp_path / "zoo" / "latency_tables" / "0.json").write_text('{"format": 2}')
    assert told()[third] == (4.5, True) and "0.json is no latency table" in capfd.readouterr().err
