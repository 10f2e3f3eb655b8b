"""A sweep under Ray Tune, killed in the middle and restored: the trials that one process would have, and its winner."""

import json
import time

import pytest

from pipeline.running.waiting import machine_load
from pipeline.space.sweep import sweep
from tests.stages.space.test_sweep import SHORT, make_zoo
from tests.trials.processes import TANS, family, seconds_until_gone, start

pytestmark = [pytest.mark.slow, pytest.mark.ray]

TRIALS = 8
SETTINGS = {**SHORT, "steps": 300, "evaluate_every": 20}


def test_eight_trials_killed_and_restored_have_the_scores_of_one_process(tmp_path, record_property):
    zoo, out = make_zoo(tmp_path / "my zoo?"), tmp_path / "space"
    (tmp_path / "settings.json").write_text(json.dumps(SETTINGS))
    command = [TANS, "sweep", "--zoo", zoo, "--out", str(out), "--trials", str(TRIALS), "--workers", "2"]
    command += ["--config", str(tmp_path / "settings.json"), "--json", str(tmp_path / "summary.json")]
    process = start(command)
    ends = time.monotonic() + 240 * machine_load()
    while not any('"ended": "done"' in path.read_text() for path in out.glob("training/*/trials.json")):
        assert time.monotonic() < ends and process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    relatives = family(process)
    process.kill()
    process.communicate()
    again = start(command)
    _, errors = again.communicate(timeout=240 * machine_load())
    assert again.returncode == 0, errors
    summary = json.loads((tmp_path / "summary.json").read_text())
    trials = json.loads((out / "metrics.json").read_text())["sweep"]["trials"]["trials"]
    ended = [trial["ended"] for trial in trials]
    record_property("seen", f"{summary['done']} to the end, {summary['halved']} halved, winner {summary['winner']}")
    assert summary["trials"] == TRIALS == ended.count("done") + ended.count("halved")
    assert not (out / "training").exists()
    alone = sweep(zoo, tmp_path / "alone", trials=TRIALS, workers=0, settings=SETTINGS)
    of_one = json.loads((tmp_path / "alone" / "metrics.json").read_text())["sweep"]["trials"]["trials"]
    for trial, same in zip(trials, of_one):  # who is halved depends on who came first, scores do not
        common = min(len(trial["judgements"]), len(same["judgements"]))
        assert common and trial["judgements"][:common] == same["judgements"][:common]
    assert alone.trials == TRIALS
    seconds_until_gone(relatives)
