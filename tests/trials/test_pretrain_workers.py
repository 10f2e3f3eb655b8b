"""Pretraining on two workers of a Ray of our own: one supernet, and nothing left beside it."""

import json
import subprocess
import sys

import pytest

from tans_core.search_space.supernet_file import read_supernet

pytestmark = [pytest.mark.slow, pytest.mark.ray]


def test_two_workers_share_the_steps_and_give_one_supernet(tmp_path):
    out = tmp_path / "shared.safetensors"
    command = [sys.executable, "-m", "tans", "pretrain", "--datasets", "starter:lfw-faces", "starter:ground-textures"]
    command += ["--out", str(out), "--image-size", "32", "--batch-size", "8", "--steps", "6", "--workers", "2"]
    done = subprocess.run([*command, "--json", "-"], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    _, card = read_supernet(out)
    assert card is not None and card.hash == summary["hash"] != card.begun_from and card.steps == 6
    curve = json.loads(out.with_suffix(".json").read_text())["curve"]
    assert [point["step"] for point in curve] == [3]  # each worker's
    assert {path.name for path in tmp_path.iterdir()} == {"shared.safetensors", "shared.json"}
