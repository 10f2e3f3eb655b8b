"""`kaggle:OWNER/NAME/versions/K[#SUBFOLDER]`: one archive, unpacked by `archive.py` into kagglehub's cache.

kagglehub 1.0.2 downloads, unpacks and deletes in one call, with no check between; of it we take the cache's layout,
the credentials, the request and the transfer. Its imports stand in functions: they take a second.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import logging
import random
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import requests
from requests.adapters import HTTPAdapter

from tans_core.datasets.found import Unread, some
from tans_core.datasets.sources.archive import DamagedArchive, unpack
from tans_core.datasets.sources.folder import unread_folder
from tans_core.datasets.sources.layout import nfc
from tans_core.datasets.spec import Spec, did_you_mean
from tans_core.errors import DatasetError, DatasetUnavailable, SpecError

if TYPE_CHECKING:
    from kagglehub.handle import DatasetHandle
    from kagglesdk.datasets.services.dataset_api_service import DatasetApiClient

FORM = "kaggle:OWNER/NAME/versions/K"
LONGEST_WAIT_S = 3600.0  # for a service that says "too many requests"
SILENCE_S = 30.0  # of a server, between connecting and the first byte or between two bytes, that ends a request
_FIRST_WAIT_S = 10.0
_MOST_CUTS = 5  # of one transfer
_BY_HAND = "download it by hand, unpack it and name folder:PATH"
_Answer = TypeVar("_Answer")


def kaggle_collections(
    spec: Spec,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
    silence_s: float = SILENCE_S,
) -> list[Unread]:
    """A pinned version of a dataset on Kaggle, downloaded unless the cache has it.

    Args:
        spec: its place is OWNER/NAME/versions/K, with K from 1.
        clock: seconds since the epoch.
        sleep: waits so many seconds.
        silence_s: seconds without a byte after which a server counts as out of reach.

    Raises:
        DatasetError: the SPEC is not pinned (before any request), there is no such dataset, version or subfolder,
            it may not be read, or the archive is damaged or refused.
        DatasetUnavailable: the service is out of reach or too busy.
    """
    _check_pinned(spec)
    with _chatter_to_stderr():
        from kagglehub.handle import parse_dataset_handle

        handle = parse_dataset_handle(spec.place)
        root = _Download(handle, clock, sleep, silence_s).folder()
    if spec.subfolder:
        root = _subfolder(root, spec)
    return [unread_folder(root, spec, handle.dataset, f"{handle.owner}/{handle.dataset}")]


def _check_pinned(spec: Spec) -> None:
    place = re.sub(r"^(https?://)?(www\.)?kaggle\.com/(datasets/)?", "", spec.place).rstrip("/")
    competition = re.fullmatch(
        r"(?:(?:c|competitions)/([\w-]+)(?:/.*)?|([\w-]+)(?:/versions(?:/.*)?)?)", place, re.ASCII
    )
    if competition:
        name = competition[1] or competition[2]
        raise SpecError(
            f"{spec} names no owner, as competitions do: a competition is no dataset and has rules to accept at "
            f"https://www.kaggle.com/c/{name}; {_BY_HAND}. A dataset is {FORM}"
        )
    if re.fullmatch(r"[\w-]+/[\w-]+/versions/[1-9]\d*", spec.place, re.ASCII):
        return
    pinned = re.match(r"([\w-]+/[\w-]+)(/|$)", place, re.ASCII)
    example = f"kaggle:{pinned[1]}/versions/K" if pinned else FORM
    raise SpecError(
        f"{spec} names no fixed version, and a dataset changes under its name: write {example}, K being a number from "
        f"1; the dataset's page on Kaggle shows it"
    )


@contextlib.contextmanager
def _chatter_to_stderr() -> Iterator[None]:
    """kagglehub logs to standard output, which is for results."""
    with contextlib.redirect_stdout(sys.stderr):
        import kagglehub  # noqa: F401  sets its logger up

        handlers = [h for h in logging.getLogger("kagglehub").handlers if isinstance(h, logging.StreamHandler)]
        streams = [handler.stream for handler in handlers]
        try:
            for handler in handlers:
                handler.stream = sys.stderr
            yield
        finally:
            for handler, stream in zip(handlers, streams):
                handler.stream = stream


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@dataclass
class _Download:
    """One version of one dataset on its way into the cache."""

    handle: DatasetHandle
    clock: Callable[[], float]
    sleep: Callable[[float], None]
    silence_s: float
    with_credentials: bool = field(default=False, init=False)

    def folder(self) -> Path:
        """The unpacked dataset, fetched unless it is there; one process at a time."""
        from kagglehub.cache import Cache

        cache = Cache()
        target, archive = Path(cache.get_path(self.handle)), Path(cache.get_archive_path(self.handle))
        try:
            if not cache.load_from_cache(self.handle):
                archive.parent.mkdir(parents=True, exist_ok=True)
                with archive.with_suffix(".lock").open("w") as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX)  # ends with the process, however that ends
                    if not cache.load_from_cache(self.handle):
                        self._fetch_and_unpack(archive, target)
                        cache.mark_as_complete(self.handle)
                        archive.unlink()
        except OSError as error:
            raise DatasetError(
                f"kaggle:{self.handle} cannot be kept in {archive.parent}: {error.strerror or type(error).__name__}; "
                f"KAGGLEHUB_CACHE names another folder"
            ) from error
        _say(f"kaggle:{self.handle} is read from {target}")
        return target

    def _fetch_and_unpack(self, archive: Path, target: Path) -> None:
        from kagglehub.exceptions import DataCorruptionError

        for last in (False, True):
            shutil.rmtree(target, ignore_errors=True)  # half a folder of kagglehub's, or of a call that was killed
            try:
                self._fetch(archive)
                unpack(archive, target)
                return
            except (DamagedArchive, DataCorruptionError) as error:
                archive.unlink(missing_ok=True)
                why = str(error) if isinstance(error, DamagedArchive) else "its checksum is wrong"
                if last:
                    raise DatasetError(
                        f"the archive of kaggle:{self.handle} came damaged twice ({why}) and is deleted; {_BY_HAND}"
                    ) from error
                _say(f"the archive of kaggle:{self.handle} is damaged ({why}): deleted, fetched once more")

    def _fetch(self, archive: Path) -> None:
        """The whole archive, through a few lost connections."""
        for cut in range(1, _MOST_CUTS + 1):
            response = self._ask_for_archive()
            ranges = response.headers.get("Accept-Ranges") == "bytes"
            try:
                self._transfer(response, archive)
                return
            except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
                got = archive.stat().st_size if archive.exists() else 0
                after = f"the connection was lost after {got:,} bytes of kaggle:{self.handle}"
                if cut == _MOST_CUTS:
                    raise DatasetUnavailable(
                        f"{after}, {cut} times; the same command "
                        + ("goes on where it stopped" if ranges else "starts again: the server takes no ranges")
                    ) from error
                _say(f"{after}: " + ("goes on there" if ranges else "starts again, as the server takes no ranges"))
                self.sleep(float(2**cut))

    def _transfer(self, response: requests.Response, archive: Path) -> None:
        from kagglehub.clients import download_file
        from kagglehub.integrity import get_md5_checksum_from_response

        size, free = int(response.headers.get("Content-Length", 0)), shutil.disk_usage(archive.parent).free
        got = archive.stat().st_size if archive.exists() else 0
        if 2 * size - got > free:  # pictures hardly compress: the content takes as much again, which unpacking checks
            raise DatasetError(
                f"the archive of kaggle:{self.handle} has {size:,} bytes, its content no fewer, and {archive.parent} "
                f"has {free:,} free: make room, or set KAGGLEHUB_CACHE to a folder on a larger disk"
            )
        expected = get_md5_checksum_from_response(response)
        # One of the right size is whole for kagglehub, whatever is in it; a longer one it would prolong.
        if got > size or (got == size and expected and _md5(archive) != expected):
            archive.unlink()
        with response:
            download_file(response, str(archive), self.handle)

    def _ask_for_archive(self) -> requests.Response:
        from kagglesdk.datasets.types.dataset_api_service import ApiDownloadDatasetRequest

        request = ApiDownloadDatasetRequest()
        request.owner_slug, request.dataset_slug = self.handle.owner, self.handle.dataset
        request.dataset_version_number = self.handle.version
        return self._call(lambda client: client.download_dataset(request))  # type: ignore[return-value]

    def _call(self, ask: Callable[[DatasetApiClient], _Answer]) -> _Answer:
        """Ask without credentials, as a wrong token must not bar a public dataset; then with them, if there are any."""
        try:
            return self._patiently(ask)
        except requests.HTTPError as error:
            status = _status(error)
        if status in (401, 403, 404) and not self.with_credentials and self._credentials() is not None:
            self.with_credentials = True
            try:
                return self._patiently(ask)
            except requests.HTTPError as error:
                if (status, _status(error)) == (404, 401):
                    self.with_credentials = False  # a wrong token says nothing about what is not there
                else:
                    status = _status(error)
        raise self._failure(status)  # in our words: the error's own may hold a signed address

    def _patiently(self, ask: Callable[[DatasetApiClient], _Answer]) -> _Answer:
        start, wait_s = self.clock(), _FIRST_WAIT_S
        while True:
            try:
                return ask(self._client())
            except requests.HTTPError as error:
                if _status(error) != 429:
                    raise
                asked_s = _retry_after_s(error, self.clock())
            except requests.RequestException as error:
                raise DatasetUnavailable(
                    f"Kaggle does not answer ({type(error).__name__}) to a request for kaggle:{self.handle}: see to "
                    f"the network, or {_BY_HAND}"
                ) from None
            left_s = LONGEST_WAIT_S - (self.clock() - start)
            pause_s = min(wait_s * random.uniform(0.5, 1.0), left_s) if asked_s is None else asked_s
            if left_s <= 0 or pause_s > left_s:
                raise DatasetUnavailable(
                    f"Kaggle gets too many requests; kaggle:{self.handle} would have to wait "
                    + ("" if asked_s is None else f"{asked_s:,.0f} s more, ")
                    + f"beyond the {LONGEST_WAIT_S:,.0f} s in all that we wait: try again later, or {_BY_HAND}"
                )
            _say(f"Kaggle gets too many requests: asked for kaggle:{self.handle} again in {pause_s:,.0f} s")
            self.sleep(pause_s)
            wait_s *= 2

    def _client(self) -> DatasetApiClient:
        from kagglehub.clients import get_user_agent
        from kagglesdk.datasets.services.dataset_api_service import DatasetApiClient
        from kagglesdk.kaggle_http_client import KaggleHttpClient

        if self.with_credentials:
            found = self._credentials()
            client = KaggleHttpClient(
                username=found.username, password=found.key, api_token=found.api_key, user_agent=get_user_agent()
            )
        else:
            client = KaggleHttpClient(user_agent=get_user_agent())
            client._signed_in = False  # else it looks for credentials itself
        client._init_session()  # here, because it sets no timeout
        session = client._session
        assert session is not None
        for scheme in ("https://", "http://"):
            session.mount(scheme, _Impatient(self.silence_s))
        return DatasetApiClient(client)

    def _credentials(self) -> Any:
        from kagglehub.config import get_kaggle_credentials

        try:
            return get_kaggle_credentials()
        except (ValueError, OSError) as error:  # an OSError's text may hold the token, taken for a file's name
            raise DatasetError(
                f"the credentials for Kaggle cannot be read ({type(error).__name__}): see to {_credential_places()}"
            ) from None

    def _failure(self, status: int) -> DatasetError:
        page = f"https://www.kaggle.com/datasets/{self.handle.owner}/{self.handle.dataset}"
        if status in (401, 403):
            refused = "these credentials are refused" if self.with_credentials else "there are no credentials"
            return DatasetError(
                f"kaggle:{self.handle} may not be read ({status}; {refused}). Three ways out: put credentials where "
                f"they are looked for, {_credential_places()}; accept its terms, if it has some, at {page}; "
                f"or {_BY_HAND}"
            )
        if status == 404:
            newest = self._newest_version()
            if newest:
                there = f"kaggle:{self.handle.owner}/{self.handle.dataset} is there; its newest version is {newest}"
            else:
                there = f"see {page}; a private one is shown to its credentials only ({_credential_places()})"
            return DatasetError(f"no such dataset or version: kaggle:{self.handle}; {there}")
        kind = DatasetUnavailable if status >= 500 else DatasetError
        return kind(f"Kaggle answers {status} to a request for kaggle:{self.handle}: try later, or {_BY_HAND}")

    def _newest_version(self) -> int | None:
        from kagglesdk.datasets.types.dataset_api_service import ApiGetDatasetRequest

        request = ApiGetDatasetRequest()
        request.owner_slug, request.dataset_slug = self.handle.owner, self.handle.dataset
        try:
            return self._patiently(lambda client: client.get_dataset(request)).current_version_number or None
        except requests.HTTPError:
            return None


class _Impatient(HTTPAdapter):
    """Ends a request to a server that takes it and stays silent."""

    def __init__(self, silence_s: float) -> None:
        super().__init__()
        self._silence_s = silence_s

    def send(
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: bool | str = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> requests.Response:
        return super().send(request, stream, timeout or self._silence_s, verify, cert, proxies)


def _credential_places() -> str:
    from kagglehub.config import _get_kaggle_credentials_file

    return (
        "KAGGLE_API_TOKEN, ~/.kaggle/access_token, KAGGLE_USERNAME with KAGGLE_KEY, or "
        f"{_get_kaggle_credentials_file()}"
    )


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return base64.b64encode(hashlib.file_digest(file, "md5").digest()).decode()


def _status(error: requests.HTTPError) -> int:
    """Kaggle also sends errors under status 200, with a code in the body."""
    response = error.response
    assert response is not None
    return response.status_code if response.status_code >= 400 else int(response.json()["code"])


def _retry_after_s(error: requests.HTTPError, now: float) -> float | None:
    """Seconds or a date; None where it says nothing that can be read."""
    assert error.response is not None
    text = error.response.headers.get("Retry-After", "")
    if text.isdigit():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except ValueError:
        return None


def _subfolder(root: Path, spec: Spec) -> Path:
    paths = {nfc(path.relative_to(root).as_posix()): path for path in sorted(root.rglob("*")) if path.is_dir()}
    if nfc(spec.subfolder) in paths:
        return paths[nfc(spec.subfolder)]
    near = did_you_mean(spec.subfolder, paths)
    raise SpecError(f"{spec}: no folder {spec.subfolder!r} there; there are {some(paths) or 'none'}{near}")
