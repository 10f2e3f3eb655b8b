"""A loopback stand-in for Kaggle's service, as kagglehub 1.0.2 speaks to it.

POST /v1/datasets.DatasetApiService/DownloadDataset answers with a redirect to the archive's bytes (with ranges and an
`x-goog-hash`), .../GetDataset with the newest version.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class FakeKaggle:
    """What the service holds and how it misbehaves; `requests` is what it was asked."""

    archives: dict[tuple[str, str, int], bytes] = field(default_factory=dict)
    private: set[tuple[str, str]] = field(default_factory=set)  # only for `token`
    token: str = "a-token-that-nobody-prints"
    too_many: list[str | None] = field(default_factory=list)  # one 429 each; the value of Retry-After
    cuts: list[int] = field(default_factory=list)  # one cut transfer each, after so many bytes
    damaged: int = 0  # so many transfers come with a wrong byte in the middle
    says_hash: bool = True
    takes_ranges: bool = True
    silent: set[str] = field(default_factory=set)  # "POST", "GET": taken and never answered, until `awake` is set
    awake: threading.Event = field(default_factory=threading.Event)
    requests: list[str] = field(default_factory=list)
    authorizations: list[str | None] = field(default_factory=list)  # of the POSTs
    url: str = ""


@contextmanager
def serving() -> Iterator[FakeKaggle]:
    """The service on a free port of this machine, for the time of the block."""
    service = FakeKaggle()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"service": service}))
    service.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield service
    finally:
        service.awake.set()
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    service: FakeKaggle

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        what = self.path.removeprefix("/v1/datasets.DatasetApiService/")
        owner, name = asked["ownerSlug"], asked["datasetSlug"]
        self.service.requests.append(f"{what} {owner}/{name} {asked.get('datasetVersionNumber', '')}".strip())
        self.service.authorizations.append(self.headers["Authorization"])
        if "POST" in self.service.silent:
            self.service.awake.wait()
            return
        versions = [version for *key, version in self.service.archives if key == [owner, name]]
        if self.service.too_many:
            retry_after = self.service.too_many.pop(0)
            self._json(429, {"code": 429, "message": "Too many requests"}, {"Retry-After": retry_after})
        elif not versions:
            self._json(404, {"code": 404, "message": "Not found"})
        elif (owner, name) in self.service.private and self.headers["Authorization"] is None:
            self._json(401, {"code": 401, "message": "Unauthenticated"})
        elif (owner, name) in self.service.private and self.service.token not in self.headers["Authorization"]:
            self._json(403, {"code": 403, "message": "Permission denied"})
        elif what == "GetDataset":
            self._json(200, {"ownerRef": owner, "currentVersionNumber": max(versions)})
        elif asked["datasetVersionNumber"] not in versions:
            self._json(404, {"code": 404, "message": "Not found"})
        else:
            place = f"/bytes/{owner}/{name}/{asked['datasetVersionNumber']}?signature=secret"
            self._answer(302, b"", {"Location": self.service.url + place})

    def do_GET(self) -> None:
        *_, owner, name, version = self.path.partition("?")[0].split("/")
        whole = self.service.archives[owner, name, int(version)]
        headers = {}
        if self.service.says_hash:
            digest = base64.b64encode(hashlib.md5(whole).digest()).decode()
            headers["x-goog-hash"] = f"crc32c=n03x6A==,md5={digest}"
        if self.service.takes_ranges:
            headers["Accept-Ranges"] = "bytes"
        start = int((self.headers["Range"] or "bytes=0-")[len("bytes=") : -1]) if self.service.takes_ranges else 0
        self.service.requests.append(f"GET {owner}/{name} {version} from {start}")
        if "GET" in self.service.silent:
            self.service.awake.wait()
            return
        if self.service.damaged:
            self.service.damaged -= 1
            middle = len(whole) // 2
            whole = whole[:middle] + bytes([whole[middle] ^ 0xFF]) + whole[middle + 1 :]
        self._answer(206 if start else 200, whole[start:], headers)

    def _json(self, status: int, content: dict[str, object], headers: dict[str, str | None] | None = None) -> None:
        self._answer(status, json.dumps(content).encode(), {"Content-Type": "application/json", **(headers or {})})

    def _answer(self, status: int, body: bytes, headers: dict[str, str | None]) -> None:
        self.send_response(status)
        for key, value in headers.items():
            if value is not None:
                self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Kaggle-HubVersion", "99.0.0")  # kagglehub writes to standard output that it is outdated
        self.end_headers()
        cut = self.service.cuts.pop(0) if self.command == "GET" and self.service.cuts else len(body)
        self.wfile.write(body[:cut])

    def log_message(self, format: str, *arguments: object) -> None:
        pass
