"""Where starting weights come from: a word, a file, or an address that they are fetched from once."""

from __future__ import annotations

import hashlib
from pathlib import Path
from urllib.parse import unquote, urlsplit

import requests
from platformdirs import user_cache_path

from pipeline.running.files import write_whole
from pipeline.running.progress import say
from tans_core.errors import ConfigError
from tans_core.records import content_hash

# Where `ofa` itself fetches its MobileNetV3 from; nobody publishes their hashes.
_OFA = "https://raw.githubusercontent.com/han-cai/files/master/ofa/ofa_nets/ofa_mbv3_d234_e346_k357_w{width:.1f}"
_SILENCE_S = 60.0


def starting_weights(init: str | Path | None, search_space: str, width: float) -> str | Path | None:
    """What `make_search_space` takes: `init` itself, or the file that it stands for.

    Args:
        init: a word, a path, `file:` or `http(s):` and an address; `#sha256=HEX` behind it is what the file must hash
            to. "imagenet" with ofa-mbv3 is OFA's published checkpoint of that width.

    Raises:
        ConfigError: the address does not give the file, or it hashes to something else.
    """
    if not isinstance(init, str):
        return init
    if init == "imagenet" and search_space == "ofa-mbv3":
        init = _OFA.format(width=width)
    place, _, wanted = init.partition("#sha256=")
    scheme = urlsplit(place).scheme
    if scheme in ("http", "https"):
        path = _fetched(place)
    elif scheme == "file":
        path = Path(unquote(urlsplit(place).path))
    elif wanted:
        path = Path(place)
    elif "://" in place:
        raise ConfigError(f"--init {init}: {scheme}: cannot be read; give a path, file:, http: or https:")
    else:
        return init
    if wanted:
        _check(path, wanted)
    return path


def _fetched(address: str) -> Path:
    """The file in the user's cache folder; what was fetched once is not fetched again."""
    name = Path(unquote(urlsplit(address).path)).name
    path = user_cache_path("tans") / "supernets" / content_hash(address.encode()) / name
    if path.is_file():
        return path
    say(f"fetching {address}")
    try:
        answer = requests.get(address, timeout=_SILENCE_S)
        answer.raise_for_status()
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, answer.content)
    except (requests.RequestException, OSError) as error:
        raise ConfigError(
            f"--init {address} cannot be fetched ({' '.join(str(error).split())[:200]}): "
            "fetch it by other means and give its path"
        ) from error
    return path


def _check(path: Path, wanted: str) -> None:
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigError(f"--init {path} cannot be read ({error.strerror}): give another path") from error
    if found != wanted.lower():
        raise ConfigError(f"--init {path} has sha256 {found}, not {wanted}: take a whole copy of it, and the right one")
