"""Where starting weights come from: words, paths and addresses, checked by hash where one is given."""

import hashlib
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from pipeline.reading.starting_weights import starting_weights
from tans_core.errors import ConfigError

BYTES = b"weights"
SHA256 = hashlib.sha256(BYTES).hexdigest()


ASKED: list[str] = []


class _Counting(SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        ASKED.append(self.path)
        super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "net.safetensors").write_bytes(BYTES)
    ASKED.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Counting, directory=str(tmp_path / "served")))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_words_and_paths_are_handed_on(tmp_path):
    assert starting_weights(None, "ofa-lite", 1.0) is None
    assert starting_weights("random", "ofa-lite", 1.0) == "random"
    assert starting_weights("some/file.pt", "ofa-lite", 1.0) == "some/file.pt"
    assert starting_weights(tmp_path, "ofa-lite", 1.0) == tmp_path
    assert starting_weights("imagenet", "ofa-lite", 1.0) == "imagenet"
    assert starting_weights("file:///some/file%20here.pt", "ofa-lite", 1.0) == Path("/some/file here.pt")


def test_an_address_is_fetched_once(address):
    path = starting_weights(f"{address}/net.safetensors", "ofa-lite", 1.0)
    assert isinstance(path, Path) and path.read_bytes() == BYTES and path.name == "net.safetensors"
    assert starting_weights(f"{address}/net.safetensors#sha256={SHA256}", "ofa-lite", 1.0) == path
    assert ASKED == ["/net.safetensors"]


def test_imagenet_is_the_checkpoint_that_ofa_publishes_for_that_width(address, monkeypatch, tmp_path):
    monkeypatch.setattr("pipeline.reading.starting_weights._OFA", address + "/ofa_w{width:.1f}")
    (tmp_path / "served" / "ofa_w1.2").write_bytes(BYTES)
    path = starting_weights("imagenet", "ofa-mbv3", 1.2)
    assert isinstance(path, Path) and path.read_bytes() == BYTES


@pytest.mark.parametrize("place", ["{address}/net.safetensors", "{folder}/net.safetensors"])
def test_a_wrong_hash_is_refused(address, tmp_path, place):
    given = place.format(address=address, folder=tmp_path / "served")
    assert starting_weights(f"{given}#sha256={SHA256.upper()}", "ofa-lite", 1.0)
    with pytest.raises(ConfigError, match=f"has sha256 {SHA256}, not 0000: take a whole copy"):
        starting_weights(f"{given}#sha256=0000", "ofa-lite", 1.0)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("{address}/gone.safetensors", "cannot be fetched .404.*fetch it by other means and give its path"),
        ("s3://bucket/net.safetensors", "s3: cannot be read; give a path, file:, http: or https:"),
        ("nowhere.pt#sha256=00", "nowhere.pt cannot be read .No such file"),
    ],
)
def test_what_cannot_be_had_is_refused(address, place, message):
    with pytest.raises(ConfigError, match=message):
        starting_weights(place.format(address=address), "ofa-lite", 1.0)
