"""CPUs are what this process may use, not what the machine shows."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tans_core.cpus import usable_cpus


@pytest.fixture
def cgroup(tmp_path):
    """Writes files of cgroups, gives what `usable_cpus` sees when it can run on all CPUs of a machine of 64."""

    def seen(membership: str, files: dict[str, str]) -> int:
        (tmp_path / "membership").write_text(membership)
        for name, text in files.items():
            path = tmp_path / "cgroup" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return usable_cpus(tmp_path / "cgroup", tmp_path / "membership")

    return seen


@pytest.fixture(autouse=True)
def many_cpus(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))


def test_a_quota_of_version_2_counts_a_begun_cpu_whole(cgroup):
    assert cgroup("0::/user.slice/job\n", {"user.slice/job/cpu.max": "350000 100000\n"}) == 4


def test_the_tightest_quota_of_all_that_a_cgroup_is_in_counts(cgroup):
    files = {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "200000 100000\n", "cpu.max": "800000 100000\n"}
    assert cgroup("0::/a/b\n", files) == 2


def test_inside_a_container_its_own_cgroup_is_the_mounts_root(cgroup):
    assert cgroup("0::/docker/4f2a\n", {"cpu.max": "50000 100000\n"}) == 1


@pytest.mark.parametrize("mount", ["cpu,cpuacct", "cpu"])
def test_a_quota_of_version_1(cgroup, mount):
    membership = "5:memory:/job\n4:cpu,cpuacct:/job\n"
    files = {f"{mount}/job/cpu.cfs_quota_us": "300000\n", f"{mount}/job/cpu.cfs_period_us": "100000\n"}
    assert cgroup(membership, files) == 3


@pytest.mark.parametrize(
    "files",
    [
        {"cpu.max": "max 100000\n"},
        {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"},
        {"cpu.max": "\n"},
        {},
    ],
)
def test_without_a_quota_the_affinity_counts(cgroup, files):
    assert cgroup("1:cpu:/\n0::/\n", files) == 64


def test_a_machine_without_cgroups_has_its_affinity(tmp_path):
    assert usable_cpus(tmp_path, tmp_path / "none") == 64


def test_the_affinity_is_obeyed():
    pin = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); from tans_core.cpus import usable_cpus"
    done = subprocess.run([sys.executable, "-c", f"{pin}; print(usable_cpus())"], capture_output=True, text=True)
    assert done.stdout == "1\n", done.stderr


def test_the_core_needs_no_torch_for_it():
    light = "import sys, tans_core.cpus; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", light], cwd=Path(__file__).parents[2], check=True)
