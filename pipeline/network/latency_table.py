"""`tans latency-table`: times the blocks of a search space on this device and writes what predicts its networks."""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch

from pipeline.running.progress import Progress, say
from pipeline.running.threads import torch_threads
from pipeline.zoo import Zoo
from pipeline.zoo.latency import device_name, read_table, write_table
from tans_core.cpus import usable_cpus
from tans_core.errors import ConfigError, ZooError
from tans_core.search_space import make_search_space
from tans_core.search_space.latency import LatencyTable, Setting, fit_table
from tans_core.search_space.space import SearchSpace
from tans_core.search_space.timing import ROUNDS, Parts, clock_of, in_rounds, whole

FITTED, UNSEEN = 20, 30  # random networks that slope and intercept are fitted to, and others that judge the table
QUIET = 0.3  # load average for each CPU, from which on it is said
DEVICES = ("cpu", "cuda")


@dataclass(frozen=True, kw_only=True)
class MadeLatencyTable:
    """What `tans latency-table --json` prints; errors are relative, on random networks that were not fitted."""

    out: str
    device: str
    batch: int
    search_space: str
    width: float
    image_size: int
    unseen: int
    error_median: float
    error_p95: float
    load_average: float  # of the machine, before
    wall_s: float


def latency_table(
    zoo: str | None = None,
    *,
    search_space: str | None = None,
    width: float = 1.0,
    image_size: int | None = None,
    batch: int = 1,
    threads: int = 1,
    device: str = "cpu",
    out: Path | None = None,
) -> MadeLatencyTable:
    """Make the latency table of this device; a table of the same setting is replaced.

    Args:
        zoo: for its search space at its image size. Give this or `search_space`.
        search_space, width: for a device without the zoo; then `out` is needed.
        image_size: None: the zoo's, 64 without one.
        batch: images at once.
        threads: of the processor.
        device: "cpu" or "cuda".
        out: a file; None: into the zoo, where `search` and `build_zoo` find it.

    Raises:
        ConfigError: the arguments make no sense together, there is no such device, or `out` cannot be written.
        ZooError: there is no zoo, or nothing can be written into it.
    """
    began = time.monotonic()
    if batch < 1:
        raise ConfigError(f"--batch must be at least 1, got {batch}")
    if device not in DEVICES:
        raise ConfigError(f"there is no device {device!r}: choose one of {', '.join(DEVICES)}")
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("torch sees no GPU here: leave --device out, or make the table where one is")
    store, made, size = _asked(zoo, search_space, width, image_size, out)
    made.costs(made.sample(1, torch.Generator()), size, 2)  # refuses a size that it cannot do
    with torch_threads(threads):
        table = _measured(made, size, batch, torch.device(device), threads)
    try:
        if out is not None:
            write_table(Path(out), table)
        else:
            assert store is not None
            out = store.write_latency_table(table)
    except OSError as error:
        raise ConfigError(f"--out {out} cannot be written ({error.strerror}): name another file") from error
    return MadeLatencyTable(
        out=str(out),
        **asdict(table.setting),
        unseen=table.unseen,
        error_median=table.error_median,
        error_p95=table.error_p95,
        load_average=table.facts["load_average"],
        wall_s=time.monotonic() - began,
    )


def _asked(
    zoo: str | None, search_space: str | None, width: float, image_size: int | None, out: Path | None
) -> tuple[Zoo | None, SearchSpace, int]:
    """The zoo where there is one, its search space and the image size; what cannot be written is said now."""
    if (zoo is None) == (search_space is None):
        raise ConfigError("give either --zoo or --search-space")
    if out is not None:
        _refuse_place(Path(out))
    if search_space is not None:
        if out is None:
            raise ConfigError("without a zoo, --out FILE says where the table goes")
        return None, make_search_space(search_space, width), image_size or 64
    assert zoo is not None
    store = Zoo.open(zoo)
    kept = store.settings
    if out is None and image_size not in (None, kept.image_size):
        raise ConfigError(
            f"{store.uri} has networks of {kept.image_size} px and --image-size {image_size} was asked for: leave it "
            "out, or give --out FILE"
        )
    if out is None and not os.access(store.uri, os.W_OK):
        raise ZooError(f"nothing can be written into {store.uri}: give --out FILE")
    return store, make_search_space(kept.search_space, kept.width), image_size or kept.image_size


def _refuse_place(out: Path) -> None:
    if out.exists():
        read_table(out)  # another file stays
    if not os.access(out.parent, os.W_OK):
        raise ConfigError(f"--out {out} cannot be written: its folder is not there, or cannot be written")


def _measured(
    search_space: SearchSpace, image_size: int, batch: int, device: torch.device, threads: int
) -> LatencyTable:
    """Time parts and whole networks in the same rounds, and take the median of each."""
    load = os.getloadavg()[0]
    if load > QUIET * usable_cpus():
        say(
            f"this machine is not quiet (load average {load:.1f}, {usable_cpus()} CPUs): a table that is made when it "
            "is will be nearer"
        )
    setting = Setting(
        device=device_name(device, threads),
        batch=batch,
        search_space=search_space.name,
        width=search_space.width,
        image_size=image_size,
    )
    parts = Parts(search_space, image_size, batch, device)
    drawn_CT = search_space.sample(FITTED + UNSEEN, torch.Generator().manual_seed(0))
    networks = [whole(search_space, topology, 2, image_size, batch, device) for topology in drawn_CT.tolist()]
    progress = Progress()
    took_ms_N = in_rounds(
        [*parts.calls, *networks],
        clock_of(device, threads),
        device,
        ROUNDS,
        on_round=lambda done: progress.show(f"round {done} of {ROUNDS}", last=done == ROUNDS),
    ).quantile(0.5, dim=0)
    part_ms_N, network_ms_C = took_ms_N.split([len(parts.calls), len(networks)])
    return fit_table(
        setting,
        search_space.layout,
        parts.times(part_ms_N),
        drawn_CT[:FITTED],
        network_ms_C[:FITTED],
        drawn_CT[FITTED:],
        network_ms_C[FITTED:],
        facts={
            "measured_at": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
            "load_average": load,
            "rounds": ROUNDS,
            "fitted": FITTED,
            "torch": version("torch"),
        },
    )
