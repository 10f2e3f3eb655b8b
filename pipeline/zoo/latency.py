"""Latency of a network on a device: measured while nothing else runs, or predicted by a table that stands in a file."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

from pipeline.running.files import write_whole
from pipeline.running.threads import one_thread
from tans_core.errors import ConfigError
from tans_core.records import Row, ZooSettings, canonical_json, content_hash
from tans_core.search_space.latency import LatencyTable, Setting, table_from_json, table_to_json
from tans_core.search_space.space import SearchSpace
from tans_core.search_space.timing import clock_of
from tans_core.training.loop import CPU

WARM_UP, RUNS = 2, 11
TABLES = "latency_tables"  # folder of a zoo


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds of one forward pass on a device."""

    key: str
    device: str
    batch: int
    p10_ms: float
    p50_ms: float
    p90_ms: float
    runs: int


def device_name(device: torch.device = CPU, threads: int = 1) -> str:
    """A name for this processor with so many threads, or for this GPU: latencies of equal names are comparable."""
    if device.type == "cuda":
        return f"cuda: {torch.cuda.get_device_name(device)}"
    models = [line.split(":", 1)[1].strip() for line in _cpuinfo() if line.startswith("model name")]
    model = models[0] if models else platform.processor() or platform.machine()
    return f"cpu: {model}, {threads} thread{'s' if threads > 1 else ''}"


def at_once(batch: int) -> str:
    """A batch size in words."""
    return "one image at once" if batch == 1 else f"{batch} images at once"


def measure_latency(network: nn.Module, key: str, image_size: int) -> Latency:
    """Time single images through `network`, one thread, batch norm in eval mode."""
    network.eval()
    image = torch.zeros(1, 3, image_size, image_size).contiguous(memory_format=torch.channels_last)
    clock, took_ms = clock_of(CPU, threads=1), []
    with torch.inference_mode():
        for _ in range(WARM_UP + RUNS):
            began = clock()
            network(image)
            took_ms.append(1000 * (clock() - began))
    p10, p50, p90 = torch.tensor(took_ms[WARM_UP:]).quantile(torch.tensor([0.1, 0.5, 0.9])).tolist()
    return Latency(key, device_name(), 1, p10, p50, p90, RUNS)


def measure_rows(rows: Sequence[Row], search_space: SearchSpace, image_size: int) -> list[Latency]:
    """Latency of each row's architecture: weights do not change it, so none are read."""
    measured = []
    with one_thread():
        for row in rows:
            architecture = search_space.architecture(row.identity.topology)
            network = search_space.random_subnet(architecture, len(row.class_names), torch.Generator())
            network = network.to(memory_format=torch.channels_last)
            measured.append(measure_latency(network, row.key, image_size))
    return measured


def row_latencies(
    rows: Sequence[Row], measured: Iterable[Latency], table: LatencyTable | None, device: str, batch: int
) -> list[tuple[float | None, bool]]:
    """Milliseconds of each row on a device, and whether they are predicted; None: neither timed nor predicted.

    Args:
        table: of that device; asked for rows that were not timed on it.
    """
    timed = {each.key: each.p50_ms for each in measured if (each.device, each.batch) == (device, batch)}
    predicted: list[float | None] = [None] * len(rows)
    if table is not None and rows:
        classes_R = torch.tensor([len(row.class_names) for row in rows])
        predicted = table.latency_ms(torch.tensor([row.identity.topology for row in rows]), classes_R).tolist()
    return [
        (timed[row.key], False) if row.key in timed else (ms, ms is not None)
        for row, ms in zip(rows, predicted, strict=True)
    ]


def read_table(path: Path) -> LatencyTable:
    """The latency table in a file.

    Raises:
        ConfigError: there is none.
    """
    try:
        return table_from_json(json.loads(path.read_bytes()))
    except OSError as error:
        raise ConfigError(f"the latency table {path} cannot be read ({error.strerror}): name another file") from error
    except ValueError as error:
        raise ConfigError(
            f"{path} is no latency table ({error}): make one with `tans latency-table`, or name another file"
        ) from error


def table_of(file: Path | None, kept: Sequence[LatencyTable], settings: ZooSettings) -> LatencyTable | None:
    """The table in `file`, whatever device it is of; without one, the zoo's own of this processor.

    Args:
        kept: the zoo's tables. Of them counts the one of one thread and single images; None is returned without it.
        settings: of the zoo.

    Raises:
        ConfigError: the file has none, or one of other networks or another image size.
    """
    if file is None:
        here = [each for each in kept if (each.setting.device, each.setting.batch) == (device_name(), 1)]
        return here[0] if here else None
    table, wanted = read_table(file), (settings.search_space, settings.width, settings.image_size)
    if not table.setting.is_for(*wanted):
        its = table.setting
        raise ConfigError(
            f"the latency table {file} is of {its.search_space} x{its.width:g} at {its.image_size} px and the zoo of "
            f"{wanted[0]} x{wanted[1]:g} at {wanted[2]} px: make one of the zoo's by `tans latency-table`"
        )
    return table


def write_table(path: Path, table: LatencyTable) -> None:
    """Write a table whole, over another one.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(table_to_json(table), indent=1, allow_nan=False).encode())


def table_name(setting: Setting) -> str:
    """Where the table of a setting stands in a zoo: a newer one takes its place."""
    return f"{TABLES}/{content_hash(canonical_json(asdict(setting)))}.json"


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []
