"""How many CPUs this process may use."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

CGROUPS, MEMBERSHIP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def usable_cpus(cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> int:
    """CPUs that this process may run on; fewer where a cgroup's quota gives it less time, a begun one counted whole.

    Args:
        cgroups: where cgroups are mounted, of version 1 or 2.
        membership: which ones this process is in, as Linux lists them.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([allowed, *(math.ceil(quota) for quota in _quotas(cgroups, membership))]))


def _quotas(cgroups: Path, membership: Path) -> Iterator[float]:
    """Of this process's cgroups and of all that those are in, in CPUs."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:  # not Linux
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        mounts = ["", "unified"] if not controllers else [controllers] if "cpu" in controllers.split(",") else []
        mounts += ["cpu"] if "cpu" in controllers.split(",") else []
        place = PurePosixPath(path.lstrip("/"))
        for folder in (cgroups / mount / each for mount in mounts for each in (place, *place.parents)):
            if (quota := _quota(folder)) is not None:
                yield quota


def _quota(folder: Path) -> float | None:
    """Of one cgroup, in CPUs; None where it has none, or is not there, as seen from inside a container."""
    try:
        if (both := folder / "cpu.max").exists():
            quota, period = both.read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text()
            period = (folder / "cpu.cfs_period_us").read_text()
        return int(quota) / int(period) if int(quota) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):  # "max", -1, or nothing
        return None
