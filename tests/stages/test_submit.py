"""`tans submit` before a stand-in for a cluster's dashboard, by Ray's own client."""

import json
import socket
from collections.abc import Iterator

import pytest

from pipeline.cli import run
from pipeline.on_ray.submit import Jobs
from tans_core.errors import PoolError
from tests.fakes.ray_jobs import FakeJobs, serving

BUILD = ["build-zoo", "--zoo", "/data/zoo", "--datasets", "starter:all", "--pairs", "8", "--workers", "2"]
IN_WORDS = "tans build-zoo --zoo /data/zoo --datasets starter:all --pairs 8 --workers 2 --address auto"


@pytest.fixture
def cluster(monkeypatch, tmp_path) -> Iterator[FakeJobs]:
    """Without a token, and nothing of Ray in the environment or at home."""
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with serving(FakeJobs()) as fake:
        yield fake


def submit(cluster: FakeJobs, *words: str, follow: bool = False) -> int:
    return run(["submit", *(["--follow"] if follow else []), "--address", cluster.url, "--", *(words or BUILD)])


def test_a_job_has_the_words_joins_its_cluster_is_sent_nothing_and_has_time_to_stop(cluster, capfd):
    assert submit(cluster) == 0
    (name, job), *more = cluster.jobs.items()
    assert not more and job["entrypoint"] == IN_WORDS
    assert job["runtime_env"] == {"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": "40"}}
    assert capfd.readouterr().out == f"job {name} is handed in\n"


def test_a_build_that_says_its_cluster_joins_that_and_a_command_that_joins_none_is_told_of_none(cluster):
    assert submit(cluster, *BUILD, "--address", "head:6379") == 0
    assert submit(cluster, "search", "folder:/data/mine", "--zoo", "/data/zoo", "--space", "/data/space") == 0
    build, search = (job["entrypoint"] for job in cluster.jobs.values())
    assert build.endswith(" --address head:6379") and "--address" not in search


def test_while_the_same_words_are_at_work_no_second_job_is_begun(cluster, capfd):
    submit(cluster)
    (name,) = cluster.jobs
    assert submit(cluster) == 0 and list(cluster.jobs) == [name]
    assert f"job {name} works on this already" in capfd.readouterr().out
    cluster.jobs[name]["status"] = "PENDING"
    assert submit(cluster) == 0 and list(cluster.jobs) == [name]
    submit(cluster, *BUILD[:-1], "3")  # other words
    assert len(cluster.jobs) == 2


@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED", "STOPPED"])
def test_when_that_job_has_ended_the_same_words_begin_the_next(cluster, status):
    submit(cluster)
    (name,) = cluster.jobs
    cluster.jobs[name]["status"] = status
    submit(cluster)
    assert name.endswith("-1") and list(cluster.jobs) == [name, name.removesuffix("1") + "2"]


def test_of_two_who_hand_in_the_same_at_once_the_second_finds_the_firsts_job(cluster, capfd):
    cluster.taken = True
    assert submit(cluster) == 0
    assert len(cluster.jobs) == 1 and "works on this already" in capfd.readouterr().out


def test_followed_a_job_shows_its_log_on_standard_error_and_its_end_on_standard_output(cluster, capfd):
    assert submit(cluster, follow=True) == 0
    seen, (name,) = capfd.readouterr(), cluster.jobs
    assert "first\nsecond\n" in seen.err and seen.out == f"job {name}: SUCCEEDED\n"


@pytest.mark.parametrize(
    ("ends", "status"), [(("FAILED", 2), 2), (("FAILED", 1), 1), (("STOPPED", 0), 1), (("FAILED", None), 1)]
)
def test_followed_a_job_gives_its_exit_status(cluster, ends, status, tmp_path):
    cluster.ends = ends
    assert run(["submit", "--follow", "--address", cluster.url, "--json", str(tmp_path / "j"), "--", *BUILD]) == status
    (name,) = cluster.jobs
    told = json.loads((tmp_path / "j").read_text())
    assert told == {"job": name, "begun": True, "status": ends[0], "exit_status": ends[1]}


def test_a_log_that_breaks_off_goes_on_where_it_was(cluster, capfd):
    cluster.cuts = 1
    assert submit(cluster, follow=True) == 0
    seen = capfd.readouterr().err
    assert seen.count("first\n") == 1 and seen.count("second\n") == 1 and "broke off" in seen


def test_the_rest_of_a_log_that_broke_off_is_shown_though_the_job_has_ended(cluster, capfd):
    submit(cluster)
    (job,) = cluster.jobs.values()
    job.update(status="RUNNING")
    cluster.cuts, cluster.ends = 2, ("FAILED", 1)
    assert submit(cluster, follow=True) == 1
    assert capfd.readouterr().err.count("second\n") == 1


def test_a_head_that_goes_away_is_waited_for_and_given_up_with_the_way_out(cluster):
    submit(cluster)
    jobs, (name,) = Jobs(cluster.url, away_limit_s=0.5), cluster.jobs
    cluster.away = True
    with pytest.raises(PoolError, match=rf"job {name} goes on if the head does; the same command follows it again"):
        jobs.follow(name, print)


def refusal(capfd) -> str:
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("tans: ")]
    return line


def test_a_cluster_with_a_token_wants_it_and_takes_it_from_its_file(cluster, capfd, monkeypatch, tmp_path):
    cluster.token = "the-clusters"
    assert submit(cluster) == 1
    assert "wants a token and there is none" in refusal(capfd)
    (tmp_path / "token").write_text("another\n")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    assert submit(cluster) == 1
    assert f"refuses the token of {tmp_path / 'token'}" in refusal(capfd)
    (tmp_path / "token").write_text("the-clusters\n")
    assert submit(cluster, follow=True) == 0 and len(cluster.jobs) == 1


def test_a_users_mode_that_is_not_the_clusters_is_refused(cluster, capfd, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    assert submit(cluster) == 1 and "has no authentication and RAY_AUTH_MODE=token" in refusal(capfd)


def test_a_head_that_is_away_is_said_in_a_line(cluster, capfd):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
    assert run(["submit", "--address", f"http://127.0.0.1:{port}", "--", *BUILD]) == 1
    said = refusal(capfd)
    assert f"no Ray dashboard answers at 'http://127.0.0.1:{port}'" in said and "http://HEAD:8265" in said


def test_the_address_comes_from_rays_variable_and_the_flag_wins(cluster, monkeypatch):
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", cluster.url)
    assert run(["submit", "--", *BUILD]) == 0
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://127.0.0.1:9")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    assert submit(cluster) == 0 and len(cluster.jobs) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["build-zoo", "--zoo", "zoo", "--datasets", "starter:all", "--pairs", "8"], "'zoo' is looked for in a folder"),
        (["build-zoo", "--zoo", "/z", "--datasets", "folder:mine", "--pairs", "8"], "'folder:mine' is looked for"),
        (["meta-train", "--zoo", "/z", "--out", "space"], "'space' is looked for"),
        (["zoo", "show", "--zoo", "/z", "--json", "summary.json"], "'summary.json' is looked for"),
        (["submit", "--", *BUILD], "leave the second submit out"),
    ],
)
def test_words_that_would_mean_something_else_on_the_head_are_refused(cluster, capfd, words, said):
    assert submit(cluster, *words) == 2
    assert said in refusal(capfd) and not cluster.jobs


def test_words_that_tans_does_not_take_are_refused_before_anything_is_asked(capfd):
    assert run(["submit", "--address", "http://127.0.0.1:9", "--", "build-zoo", "--zoo", "/z"]) == 2
    assert "--datasets" in capfd.readouterr().err
    assert run(["submit", "--address", "head:6379", "--", *BUILD]) == 2
    assert "'head:6379' is no such address" in refusal(capfd)
