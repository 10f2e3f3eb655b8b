"""`tans zoo show`: what is in a zoo, told apart."""

from dataclasses import replace
from pathlib import Path

from zoo_examples import DATASETS, dataset_record, new_zoo, outcome

from pipeline.zoo.show import show_zoo
from tans_core.records import Candidate


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
