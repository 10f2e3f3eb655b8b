"""A pretraining under way, as a file beside the one that it will give: `FILE.safetensors.part`."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from pipeline.running.files import write_new, write_whole
from tans_core.errors import ConfigError
from tans_core.records import canonical_json, content_hash
from tans_core.search_space.supernet_file import read_supernet
from tans_core.training.pretrain import PretrainState

_OURS = "tans_pretraining"


class PretrainingPart:
    """What is kept of a pretraining until it is whole: of one kind of settings, and gone afterwards.

    Raises:
        ConfigError: `out`, its curve or its part are there and of something else, or cannot be read or written.
    """

    def __init__(self, out: Path, settings: dict[str, Any]) -> None:
        self.out, self.settings = out, settings
        self.state: PretrainState | None = None
        self.steps, self.seconds, self.run_id = 0, 0.0, None
        self.whole = False
        self._path, self._curve = out.with_name(f"{out.name}.part"), out.with_suffix(".json")
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            if self._path.exists():
                self._read()
            if out.exists():
                self._refuse_other()
                self.whole = True
                self._path.unlink(missing_ok=True)
            elif self.state is None:
                if self._curve.exists():
                    raise ConfigError(f"--out {out} would come with {self._curve}, which is there: name another file")
                self._try()
        except OSError as error:
            raise ConfigError(f"--out {out} cannot be written ({error.strerror}): name another file") from error

    def keep(self, state: PretrainState, steps: int, seconds: float) -> None:
        """Have the state outlive whatever ends this process."""
        self.state, self.steps, self.seconds = state, steps, seconds
        self._save()

    @property
    def ray_folder(self) -> Path:
        """Where Ray Train keeps what these settings gave so far."""
        return self._path.with_name(f"{self._path.name}.ray") / content_hash(canonical_json(self.settings))

    def note_run(self, run_id: str) -> None:
        """Keep the id of the MLflow run with the next state."""
        self.run_id = run_id

    def finish(self, supernet: bytes, curve: bytes) -> None:
        """Write the curve, then the supernet, and take the part away."""
        write_whole(self._curve, curve)
        if not write_new(self.out, supernet):
            self._refuse_other()
        self._path.unlink(missing_ok=True)
        shutil.rmtree(self.ray_folder, ignore_errors=True)
        with suppress(OSError):  # not there, or somebody else's training is in it
            self.ray_folder.parent.rmdir()

    def _save(self) -> None:
        assert self.state is not None
        kept = {"settings": self.settings, "steps": self.steps, "seconds": self.seconds, "run_id": self.run_id}
        tensors = {name: tensor.cpu().contiguous() for name, tensor in self.state.tensors().items()}
        write_whole(self._path, save(tensors, {_OURS: json.dumps(kept)}))

    def _read(self) -> None:
        another = f"{self._path} is there and"
        try:
            with safe_open(self._path, "pt") as file:
                kept = json.loads((file.metadata() or {})[_OURS])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        except (SafetensorError, KeyError, ValueError) as error:
            raise ConfigError(f"{another} is no pretraining under way: name another --out") from error
        if canonical_json(kept["settings"]) != canonical_json(self.settings):
            raise ConfigError(
                f"{another} is a pretraining of other settings ({_differences(kept['settings'], self.settings)}): "
                "give those again, or name another --out"
            )
        self.state = PretrainState.of_tensors(tensors)
        self.steps, self.seconds, self.run_id = kept["steps"], kept["seconds"], kept["run_id"]

    def _refuse_other(self) -> None:
        """Raise ConfigError unless `out` is what these settings gave."""
        another = f"--out {self.out} is there already and"
        try:
            kept = json.loads(self._curve.read_bytes())["settings"]
            hash_there = json.loads(self._curve.read_bytes())["card"]["hash"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{another} nothing says what it is: name another file") from error
        if canonical_json(kept) != canonical_json(self.settings):
            raise ConfigError(f"{another} of other settings ({_differences(kept, self.settings)}): name another file")
        _, card = read_supernet(self.out)
        if card is None or card.hash != hash_there:
            raise ConfigError(f"{another} is not the supernet that its curve is of: name another file")

    def _try(self) -> None:
        """A place that cannot be written is to be known before the work."""
        trial = self._path.with_name(f".{self._path.name}.trial")
        trial.write_bytes(b"")
        trial.unlink()


def _differences(there: dict[str, Any], given: dict[str, Any]) -> str:
    names = [name.replace("_", "-") for name in given if there.get(name) != given[name]]
    return ", ".join(names)
