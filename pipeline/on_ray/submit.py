"""Handing a command to a cluster as a job of Ray's, by way of its dashboard; one job of the same words at a time."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import shlex
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import requests
from ray.exceptions import RayError
from ray.job_submission import JobDetails, JobSubmissionClient

from pipeline.on_ray.authentication import ANSWER_S, agreed, in_force
from pipeline.on_ray.messages import one_line, reason
from pipeline.running.progress import say
from pipeline.running.waiting import Wait, said_when_slow
from tans_core.errors import PoolError

STOP_WAIT_S = 40  # that Ray waits between SIGTERM and SIGKILL: a build finishes and commits what runs within 30
AWAY_LIMIT_S = 60.0  # for a head that was there and does not answer
_ASK_AGAIN_S = 1.0
_LOG_TRIES = 3  # in a row, of a job that has ended
_ADDRESS = "RAY_API_SERVER_ADDRESS"  # Ray lets it win over every argument, so it is made to say what the argument says
_LOST = (OSError, RuntimeError, RayError, requests.RequestException)


@dataclass(frozen=True)
class Handed:
    """A job that works on the command."""

    job: str  # Ray's submission id
    begun: bool  # False: it was at work already


@dataclass(frozen=True)
class Ended:
    """A job that does no more."""

    status: str  # SUCCEEDED, FAILED or STOPPED
    exit_status: int | None  # of the command, where it came so far
    message: str  # Ray's, about that


class Jobs:
    """The jobs of the cluster behind a dashboard."""

    def __init__(self, url: str, away_limit_s: float = AWAY_LIMIT_S) -> None:
        """Ask it whether it wants a token.

        Raises:
            PoolError: no dashboard answers, or it wants another token than the user has.
        """
        self._url, self._away_limit_s = url.rstrip("/"), away_limit_s
        logging.getLogger(JobSubmissionClient.__module__).setLevel(logging.WARNING)  # else it tells of its sockets
        authentication = agreed(url, partial(_takes, self._url))
        try:
            with in_force({_ADDRESS: self._url, **authentication.variables}):
                self._client = JobSubmissionClient(self._url)
        except _LOST as error:
            raise _no_answer(self._url, reason(error)) from error

    def hand_in(self, words: Sequence[str]) -> Handed:
        """Begin a job, unless one of the same words is at work: two of them would want one zoo.

        Nothing is shipped: the nodes have the program.

        Raises:
            PoolError: the cluster does not take it.
        """
        name = _name(words)
        lost: Exception | None = None
        environment = {"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S)}}
        for _ in range(3):
            try:
                before = [job for job in self._client.list_jobs() if (job.submission_id or "").startswith(f"{name}-")]
                if at_work := [job for job in before if not job.status.is_terminal()]:
                    return Handed(_id(at_work[0]), begun=False)
                number = 1 + max((int(_id(job).rpartition("-")[2]) for job in before), default=0)
                job = self._client.submit_job(
                    entrypoint=shlex.join(words), submission_id=f"{name}-{number}", runtime_env=environment
                )
                return Handed(job, begun=True)
            except _LOST as error:
                lost = error
                if "already exists" not in str(error):  # else somebody was faster: that is the one
                    break
        raise PoolError(
            f"the Ray cluster at {self._url!r} does not take the job: {reason(lost or RuntimeError())}"
        ) from lost

    def follow(self, job: str, write: Callable[[str], None]) -> Ended:
        """Hand on what the job logs until it ends; where the connection breaks, from there on when it is back.

        Raises:
            PoolError: the head does not come back.
        """
        shown, broken, away = 0, 0, None  # letters of the log, how often in a row it broke off, since when no answer
        while True:
            if away is None:
                shown, whole = asyncio.run(self._tail(job, shown, write))
                broken = 0 if whole else broken + 1
            try:
                details = self._client.get_job_info(job)
                if details.status.is_terminal() and (broken == 0 or broken >= _LOG_TRIES):
                    return Ended(details.status.value, details.driver_exit_code, one_line(details.message or ""))
                away = None
            except _LOST:
                away = away or Wait("the head to answer again", self._away_limit_s, partial(self._gone, job))
                away.check()
            time.sleep(_ASK_AGAIN_S)

    async def _tail(self, job: str, shown: int, write: Callable[[str], None]) -> tuple[int, bool]:
        """What is new after so many letters; gives how many there were, and whether that is all until now.

        The log always comes from its beginning.
        """
        letters, whole = 0, True
        try:
            async for text in self._client.tail_job_logs(job):
                if new := text[max(0, shown - letters) :]:
                    write(new)
                letters += len(text)
        except Exception as error:  # of several libraries' kinds
            say(f"the log of {job} broke off ({reason(error)})")
            whole = False
        return max(shown, letters), whole

    def _gone(self, job: str) -> PoolError:
        return PoolError(
            f"the head at {self._url} did not answer for {self._away_limit_s:.0f} s: job {job} goes on if the head "
            "does; the same command follows it again"
        )


def _name(words: Sequence[str]) -> str:
    """Of all jobs of these words: `tans-build-zoo-1a2b3c4d`."""
    return f"tans-{words[1]}-{hashlib.sha256(shlex.join(words).encode()).hexdigest()[:8]}"


def _id(job: JobDetails) -> str:
    assert job.submission_id is not None
    return job.submission_id


def _takes(url: str, token: str | None) -> bool:
    """Whether the dashboard talks to those who show this token, or none.

    Raises:
        PoolError: nothing answers there, or no dashboard of Ray's.
    """
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        with said_when_slow(f"{url} to answer", ANSWER_S):
            answer = requests.get(f"{url}/api/version", headers=headers, timeout=ANSWER_S)
    except (requests.RequestException, ValueError) as error:
        raise _no_answer(url, reason(error)) from error
    if answer.status_code in (401, 403):
        return False
    try:
        answer.raise_for_status()
        assert isinstance(answer.json()["ray_version"], str)
    except (requests.RequestException, AssertionError, KeyError, TypeError, ValueError) as error:
        raise _no_answer(url, f"what answers is none: status {answer.status_code}") from error
    return True


def _no_answer(url: str, why: str) -> PoolError:
    return PoolError(
        f"no Ray dashboard answers at {url!r} ({why}): check the address and that its head is up; it is the one that "
        "you open in a browser, http://HEAD:8265"
    )
