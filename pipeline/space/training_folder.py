"""Trainings under way, in the folder of the space that they will give: `training/ID/`, gone when the space is whole."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from pathlib import Path

from pipeline.running.files import write_whole
from pipeline.zoo.history.run_facts import run_facts
from tans_core.cross_modal.meta_training import SpaceState
from tans_core.errors import ConfigError
from tans_core.training.weights import decode_weights, encode_weights

TRAINING = "training"
TRIALS = "trials.json"  # of a sweep

_FACTS = "run.json"
_RAYS = {"ray", "trials", "meta-train"}  # of Ray Train, of Ray Tune, and of Ray Train in earlier versions
_OURS = {_FACTS, "mlflow.json", "state.safetensors", TRIALS, *_RAYS}


class Work:
    """The folder of a training under way, one for each thing that can be trained, gone when the space is whole.

    Its `run.json` says what the last run was made with: of a training that failed it is what a report needs.

    Args:
        storage: where Ray Train's checkpoints go, under the training's own name; None: into the folder.
    """

    def __init__(self, folder: Path, storage: Path | None = None) -> None:
        self.folder = folder
        self.checkpoints = folder / "ray" if storage is None else storage / f"tans-{folder.name}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_whole(self.folder / _FACTS, json.dumps(run_facts(), indent=1).encode())
        except OSError as error:
            raise ConfigError(f"{folder} cannot be made ({error.strerror}): name another folder") from error
        self._state, self._run = folder / "state.safetensors", folder / "mlflow.json"
        self.resume = SpaceState.of_tensors(decode_weights(self._state.read_bytes())) if self._state.exists() else None
        self.logged = 0 if self.resume is None else len(self.resume.curve)  # evaluations that MLflow has

    @property
    def run_id(self) -> str | None:
        return json.loads(self._run.read_bytes())["run_id"] if self._run.exists() else None

    def note_run(self, run_id: str) -> None:
        write_whole(self._run, json.dumps({"run_id": run_id}).encode())

    def keep(self, state: SpaceState) -> None:
        write_whole(self._state, encode_weights(state.tensors()))

    def remove_checkpoints(self) -> None:
        """The space is whole."""
        shutil.rmtree(self.checkpoints, ignore_errors=True)


def is_training(path: Path) -> bool:
    """Whether an entry of a space's folder holds trainings under way and nothing else that could be lost."""
    if path.name != TRAINING or not path.is_dir():
        return False
    return all(_was_training(each) for each in path.iterdir() if not each.name.startswith("."))


def remove_trainings(path: Path) -> None:
    """Take away what trainings left in `training`; whatever else came there stays."""
    for folder in [each for each in path.iterdir() if _was_training(each)]:
        shutil.rmtree(folder)
    with suppress(OSError):  # not empty
        path.rmdir()


def _was_training(folder: Path) -> bool:
    """Whether a training left this folder, known by what its `run.json` says; an empty one was left before that."""
    try:
        names = {path.name for path in folder.iterdir() if not path.match(".*.tmp")}  # cut off by a kill
        if not names:
            return True
        facts = json.loads((folder / _FACTS).read_bytes())
        return names <= _OURS and {"arguments", "versions", "machine", "environment"} <= facts.keys()
    except (OSError, ValueError, AttributeError):
        return False
