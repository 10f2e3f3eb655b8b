"""A loopback stand-in for the jobs part of a Ray dashboard, as Ray 2.60's JobSubmissionClient speaks to it.

GET /api/version, GET and POST /api/jobs/, GET /api/jobs/ID, and the log over a websocket at /api/jobs/ID/logs/tail.
Without a token it is 401 and with a wrong one 403, as there; tests/trials/test_submitted.py asks a real one.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from aiohttp import web


@dataclass
class FakeJobs:
    """What the cluster holds and how it misbehaves."""

    token: str | None = None
    jobs: dict[str, dict] = field(default_factory=dict)  # by submission id, as Ray tells of them
    logs: dict[str, list[str]] = field(default_factory=dict)  # what has been logged, piece by piece
    ends: tuple[str, int | None] | None = ("SUCCEEDED", 0)  # how a job ends that is looked at; None: it goes on
    cuts: int = 0  # so many logs break off after their first piece
    taken: bool = False  # somebody else hands in the same job just before us
    away: bool = False  # for everything but the log
    url: str = ""

    def begin(self, name: str, entrypoint: str, runtime_env: dict | None = None, status: str = "RUNNING") -> None:
        self.jobs[name] = {
            "type": "SUBMISSION",
            "submission_id": name,
            "status": status,
            "entrypoint": entrypoint,
            "runtime_env": runtime_env or {},
        }
        self.logs.setdefault(name, ["first\n", "second\n"])


@contextmanager
def serving(fake: FakeJobs) -> Iterator[FakeJobs]:
    """The service on a free port of this machine, for the time of the block."""
    loop, up = asyncio.new_event_loop(), threading.Event()

    async def serve() -> None:
        runner = web.AppRunner(_application(fake))
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        fake.url = f"http://{host}:{port}"
        up.set()
        await stop.wait()
        await runner.cleanup()

    stop = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    assert up.wait(30)
    try:
        yield fake
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(30)
        loop.close()


def _application(fake: FakeJobs) -> web.Application:
    @web.middleware
    async def guarded(request: web.Request, handler) -> web.StreamResponse:
        shown = request.headers.get("Authorization") or request.headers.get("X-Ray-Authorization")
        if fake.token is not None and shown is None:
            return web.Response(status=401, text="Unauthorized: Missing authentication token")
        if fake.token is not None and shown != f"Bearer {fake.token}":
            return web.Response(status=403, text="Forbidden: Invalid authentication token")
        if fake.away and not request.path.endswith("/tail"):
            return web.Response(status=503, text="away")
        return await handler(request)

    async def version(_: web.Request) -> web.Response:
        return web.json_response({"version": "4", "ray_version": "2.60.0", "ray_commit": "", "session_name": "s"})

    async def every(_: web.Request) -> web.Response:
        driver = {"type": "DRIVER", "job_id": "01000000", "status": "RUNNING", "entrypoint": "somebody's"}
        return web.json_response([driver, *fake.jobs.values()])

    async def begin(request: web.Request) -> web.Response:
        asked = await request.json()
        name = asked["submission_id"]
        if fake.taken:
            fake.taken = False
            fake.begin(name, asked["entrypoint"])
        if name in fake.jobs:
            text = f"Traceback (most recent call last):\nValueError: Job with submission_id {name} already exists."
            return web.Response(status=500, text=text)
        fake.begin(name, asked["entrypoint"], asked["runtime_env"])
        return web.json_response({"job_id": name, "submission_id": name})

    async def one(request: web.Request) -> web.Response:
        job = fake.jobs[request.match_info["job"]]
        if fake.ends is not None:
            job["status"], job["driver_exit_code"] = fake.ends
            job["message"] = f"Job entrypoint command failed with exit code {fake.ends[1]}"
        return web.json_response(job)

    async def log(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        for piece in fake.logs[request.match_info["job"]]:
            await socket.send_str(piece)
            if fake.cuts:
                fake.cuts -= 1
                assert request.transport is not None
                request.transport.abort()
                return socket
        await socket.close()
        return socket

    application = web.Application(middlewares=[guarded])
    application.add_routes(
        [
            web.get("/api/version", version),
            web.get("/api/jobs/", every),
            web.post("/api/jobs/", begin),
            web.get("/api/jobs/{job}", one),
            web.get("/api/jobs/{job}/logs/tail", log),
        ]
    )
    return application
