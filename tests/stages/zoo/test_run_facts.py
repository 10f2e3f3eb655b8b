"""What a run was made with stands in its journal, and no secret does."""

import json

import pytest

from pipeline.zoo import Zoo
from pipeline.zoo.history.run_facts import journalled, run_facts, without_secrets
from tests.stages.space.test_meta_train import make_zoo


def test_what_matters_is_there_and_secrets_are_not(monkeypatch):
    for name, value in {
        "RAY_ADDRESS": "10.0.0.1:6379",
        "RAY_AUTH_TOKEN": "hush-1",
        "MLFLOW_TRACKING_URI": "https://me:hush-2@tracking/",
        "MLFLOW_TRACKING_PASSWORD": "hush-3",
        "CUDA_VISIBLE_DEVICES": "0",
        "OMP_NUM_THREADS": "1",
        "KAGGLEHUB_CACHE": "/cache",
        "SLURM_JOB_ID": "77",
        "AWS_SECRET_ACCESS_KEY": "hush-4",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.argv", ["tans", "build-zoo", "--mlflow-uri", "http://me:hush-5@server"])
    facts = run_facts()
    environment = facts["environment"]
    assert environment["RAY_ADDRESS"] == "10.0.0.1:6379" and environment["SLURM_JOB_ID"] == "77"
    assert environment["RAY_AUTH_TOKEN"] == environment["MLFLOW_TRACKING_PASSWORD"] == "(not shown)"
    assert environment["MLFLOW_TRACKING_URI"] == "https://...@tracking/"
    assert "hush" not in json.dumps(facts)
    assert facts["versions"]["torch"] and facts["machine"]["cpus"] >= 1 and facts["machine"]["memory_bytes"] > 2**28


def test_an_address_without_secrets_stays_as_it_is():
    assert without_secrets("http://server:5000/a@b") == "http://server:5000/a@b"


def test_a_run_that_fails_leaves_its_cause_in_the_journal(tmp_path):
    journal = Zoo.open(make_zoo(tmp_path / "zoo")).journal
    with pytest.raises(RuntimeError), journalled(journal, "run", {"rows_there": 0}):
        raise RuntimeError("no such luck")
    start, stop = journal.events()
    assert start.payload["rows_there"] == 0 and start.payload["versions"]["python"]
    assert stop.payload == {"error": "RuntimeError: no such luck"}
