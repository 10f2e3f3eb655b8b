"""`kaggle:` end to end, against a stand-in for its service on this machine."""

import base64
import io
import json
import logging
import shutil
import zipfile
from email.utils import formatdate
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tans_core.datasets.opening import open_dataset, open_datasets
from tans_core.datasets.sources.kaggle import kaggle_collections
from tans_core.datasets.spec import parse_spec
from tans_core.errors import DatasetError, DatasetUnavailable
from tests.fakes.kaggle_service import FakeKaggle, serving
from tests.trees import encoded, pasted, picture, plant, several

SPEC = "kaggle:owner/flowers/versions/3"
POST = "DownloadDataset owner/flowers 3"
GET = "GET owner/flowers 3 from 0"


@pytest.fixture
def kaggle(monkeypatch, tmp_path):
    """The service with version 3 of owner/flowers; no credentials and an empty cache."""
    from kagglesdk import kaggle_env

    for name in ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_API_ENVIRONMENT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path / "home/.kaggle"))
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving() as service:
        monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.PROD, service.url)
        service.archives["owner", "flowers", 3] = flowers()
        yield service


def flowers(wrap: str = "", more_bytes: int = 0) -> bytes:
    """Two classes of six pictures each and a text, in a zip."""
    random = np.random.default_rng(0)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name in ("daisy", "rose"):
            for number in range(6):
                picture = io.BytesIO()
                Image.fromarray(random.integers(0, 255, (32, 32, 3), np.uint8)).save(picture, "PNG")
                file.writestr(f"{wrap}{name}/{number}.png", picture.getvalue())
        file.writestr("words.txt", b"words " * (more_bytes // 6))
    return buffer.getvalue()


class Time:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now, self.slept = 1e9, []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def collected(time: Time, spec: str = SPEC, silence_s: float = 10) -> int:
    """How many pictures there are."""
    found = kaggle_collections(parse_spec(spec), lambda: time.now, time.sleep, silence_s)
    return sum(len(list(each.read().pictures)) for each in found)


def cached(tmp_path: Path) -> set[str]:
    """What the cache holds of owner/flowers, beside locks and marks."""
    folder = tmp_path / "cache/datasets/owner/flowers"
    names = {path.relative_to(folder).as_posix() for path in [*folder.glob("*"), *folder.glob("versions/*")]}
    return {name for name in names if not name.endswith((".lock", ".complete", "versions"))}


def test_c7_c17_from_a_spec_to_images(kaggle: FakeKaggle, tmp_path, capfd):
    dataset = open_dataset(SPEC, 32)
    assert (dataset.name, dataset.source, dataset.spec) == ("flowers", "owner/flowers", SPEC)
    assert dataset.class_names == ("daisy", "rose") and dataset.images.shape == (12, 3, 32, 32)
    assert kaggle.requests == [POST, GET]
    assert cached(tmp_path) == {"versions/3"}
    assert capfd.readouterr().out == ""  # results only


def test_c5_a_cached_version_makes_no_request(kaggle: FakeKaggle, capsys):
    first = open_dataset(SPEC, 32)
    kaggle.requests.clear()
    kaggle.archives.clear()  # withdrawn
    assert open_dataset(first.spec, 32).fingerprint == first.fingerprint
    assert kaggle.requests == []
    assert f"{SPEC} is read from" in capsys.readouterr().err


def test_what_kagglehub_has_downloaded_is_read(kaggle: FakeKaggle):
    import kagglehub

    kagglehub.dataset_download(SPEC.removeprefix("kaggle:"))
    kaggle.requests.clear()
    assert collected(Time()) == 12
    assert kaggle.requests == []


@pytest.mark.parametrize(
    "place, words",
    [
        ("owner/flowers", "write kaggle:owner/flowers/versions/K"),
        ("owner/flowers/versions/0", "write kaggle:owner/flowers/versions/K"),
        ("owner/flowers/versions/latest", "write kaggle:owner/flowers/versions/K"),
        ("owner/flowers/versions/-1", "write kaggle:owner/flowers/versions/K"),
        ("owner/flowers/anything/3", "write kaggle:owner/flowers/versions/K"),
        ("../../versions/3", "write kaggle:OWNER/NAME/versions/K"),
        ("https://www.kaggle.com/datasets/owner/flowers", "write kaggle:owner/flowers/versions/K"),
        ("dogs-vs-cats", "a competition is no dataset.*folder:PATH"),
        ("competitions/dogs-vs-cats", "a competition is no dataset.*folder:PATH"),
        ("c/dogs-vs-cats/versions/1", "a competition is no dataset.*folder:PATH"),
        ("dogs-vs-cats/versions/1", "a competition is no dataset.*folder:PATH"),
        ("https://www.kaggle.com/c/dogs-vs-cats/data", "a competition is no dataset.*kaggle.com/c/dogs-vs-cats;"),
    ],
)
def test_c1_c8_what_is_not_pinned_is_refused_before_any_request(kaggle: FakeKaggle, place, words):
    with pytest.raises(DatasetError, match=words):
        open_dataset(f"kaggle:{place}", 32)
    assert kaggle.requests == []


def test_c5_an_unknown_dataset(kaggle: FakeKaggle):
    with pytest.raises(DatasetError, match="no such dataset or version: kaggle:owner/trees/versions/3"):
        open_dataset("kaggle:owner/trees/versions/3", 32)


def test_c5_an_unknown_version_names_the_newest(kaggle: FakeKaggle):
    with pytest.raises(DatasetError, match=r"no such dataset or version.*its newest version is 3"):
        open_dataset("kaggle:owner/flowers/versions/9", 32)


def test_c3_a_private_one_without_credentials(kaggle: FakeKaggle, tmp_path):
    kaggle.private.add(("owner", "flowers"))
    with pytest.raises(DatasetError) as caught:
        open_dataset(SPEC, 32)
    for way_out in ("KAGGLE_API_TOKEN", "kaggle.json", "https://www.kaggle.com/datasets/owner/flowers", "folder:PATH"):
        assert way_out in str(caught.value)
    assert cached(tmp_path) == set()


def test_c3_a_private_one_with_credentials(kaggle: FakeKaggle, monkeypatch, capfd):
    kaggle.private.add(("owner", "flowers"))
    monkeypatch.setenv("KAGGLE_API_TOKEN", kaggle.token)
    assert collected(Time()) == 12
    assert kaggle.token not in "".join(capfd.readouterr())


@pytest.mark.parametrize("token", ["wrong-token", "w" * 5000])
def test_c3_wrong_credentials_are_not_printed(kaggle: FakeKaggle, monkeypatch, capfd, token):
    kaggle.private.add(("owner", "flowers"))
    monkeypatch.setenv("KAGGLE_API_TOKEN", token)
    with pytest.raises(DatasetError) as caught:
        open_dataset(SPEC, 32)
    assert "KAGGLE_API_TOKEN" in str(caught.value)
    assert token not in str(caught.value) + "".join(capfd.readouterr())


def test_c4_a_public_one_is_asked_without_credentials(kaggle: FakeKaggle, tmp_path):
    file = tmp_path / "home/.kaggle/kaggle.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"username": "me", "key": "a wrong key"}))
    assert collected(Time()) == 12
    assert kaggle.authorizations == [None]


def test_c3_a_user_name_and_a_key(kaggle: FakeKaggle, monkeypatch):
    kaggle.private.add(("owner", "flowers"))
    monkeypatch.setenv("KAGGLE_USERNAME", "me")
    monkeypatch.setenv("KAGGLE_KEY", "my key")
    kaggle.token = base64.b64encode(b"me:my key").decode()
    assert collected(Time()) == 12


def test_c6_too_many_requests_then_success(kaggle: FakeKaggle, capsys):
    time = Time()
    kaggle.too_many = ["40", formatdate(time.now + 100, usegmt=True), None, None]
    assert collected(time) == 12
    assert time.slept[:2] == [40, 60]
    assert 20 <= time.slept[2] <= 40 < time.slept[3] * 2 and time.slept[3] <= 80  # doubled each time, with jitter
    assert f"asked for {SPEC} again in 40 s" in capsys.readouterr().err


def test_c6_too_many_requests_for_an_hour(kaggle: FakeKaggle):
    time = Time()
    kaggle.too_many = [None] * 100
    with pytest.raises(DatasetUnavailable, match=r"too many requests.*folder:PATH"):
        collected(time)
    assert sum(time.slept) == pytest.approx(3600)  # the last pause is what is left of the hour
    assert len(time.slept) < 15
    assert len(kaggle.requests) == len(time.slept) + 1


def test_c6_a_wait_beyond_the_hour_is_not_begun(kaggle: FakeKaggle):
    time = Time()
    kaggle.too_many = ["7200"]
    with pytest.raises(DatasetUnavailable, match="7,200 s more"):
        collected(time)
    assert time.slept == []


def test_c6_the_other_datasets_are_read(kaggle: FakeKaggle, tmp_path):
    kaggle.too_many = ["7200"]
    pets = plant(tmp_path / "pets", {"cats/": several("c", 5), "dogs/": several("d", 5)})
    missed: list[DatasetUnavailable] = []
    (read,) = open_datasets([SPEC, f"folder:{pets}"], 8, unavailable=missed.append)
    assert read.name == "pets" and SPEC in str(missed[0])


@pytest.mark.parametrize("silent", ["POST", "GET"])
def test_a_server_that_never_answers_ends_in_an_error(kaggle: FakeKaggle, silent):
    kaggle.silent = {silent}
    with pytest.raises(DatasetUnavailable, match=r"Kaggle does not answer .*folder:PATH"):
        collected(Time(), silence_s=0.2)
    assert len(kaggle.requests) < 3


@pytest.mark.parametrize("says_hash", [True, False])
def test_c9_a_cut_download_goes_on_where_it_stopped(kaggle: FakeKaggle, capsys, says_hash):
    kaggle.archives["owner", "flowers", 3] = flowers(more_bytes=2 << 20)
    kaggle.cuts, kaggle.says_hash = [3 << 19], says_hash
    assert collected(Time()) == 12
    assert f"GET owner/flowers 3 from {1 << 20}" in kaggle.requests  # written in pieces of 1 MiB
    assert "lost after 1,048,576 bytes" in capsys.readouterr().err


def test_c9_a_cut_download_without_ranges_starts_again_and_says_so(kaggle: FakeKaggle, capsys):
    kaggle.cuts, kaggle.takes_ranges = [10_000], False
    assert collected(Time()) == 12
    assert "starts again, as the server takes no ranges" in capsys.readouterr().err


def test_c9_a_connection_that_is_always_cut(kaggle: FakeKaggle, tmp_path):
    kaggle.cuts = [100] * 20
    with pytest.raises(DatasetError, match="5 times; the same command goes on where it stopped"):
        collected(Time())
    kaggle.cuts = []
    assert collected(Time()) == 12
    assert cached(tmp_path) == {"versions/3"}


@pytest.mark.parametrize("says_hash", [True, False])
def test_c10_a_damaged_archive_is_fetched_once_more(kaggle: FakeKaggle, says_hash):
    kaggle.damaged, kaggle.says_hash = 1, says_hash
    assert collected(Time()) == 12
    assert kaggle.requests == [POST, GET] * 2


@pytest.mark.parametrize("says_hash", [True, False])
def test_c10_an_archive_that_is_damaged_twice_is_deleted(kaggle: FakeKaggle, tmp_path, says_hash):
    kaggle.damaged, kaggle.says_hash = 9, says_hash
    with pytest.raises(DatasetError, match="damaged twice"):
        collected(Time())
    assert kaggle.requests == [POST, GET] * 2
    assert cached(tmp_path) == set()


@pytest.mark.parametrize("says_hash", [True, False])
def test_c10_a_kept_archive_of_the_right_size_and_wrong_content(kaggle: FakeKaggle, tmp_path, says_hash):
    kaggle.says_hash = says_hash
    kept = tmp_path / "cache/datasets/owner/flowers/3.archive"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(bytes(len(flowers())))
    assert collected(Time()) == 12


def test_c11_half_a_folder_is_never_read(kaggle: FakeKaggle, tmp_path):
    half = tmp_path / "cache/datasets/owner/flowers/versions/3/tulip/half.png"
    half.parent.mkdir(parents=True)
    half.write_bytes(b"half")
    assert open_dataset(SPEC, 32).class_names == ("daisy", "rose")
    assert not half.exists()


def test_c13_an_archive_that_leads_out_is_refused(kaggle: FakeKaggle, tmp_path):
    buffer = io.BytesIO(flowers())
    with zipfile.ZipFile(buffer, "a") as file:
        file.writestr("../../../../../evil.txt", "evil")
    kaggle.archives["owner", "flowers", 3] = buffer.getvalue()
    with pytest.raises(DatasetError, match=r"'../../../../../evil.txt' leads out"):
        open_dataset(SPEC, 32)
    assert not list(tmp_path.rglob("evil.txt"))
    assert cached(tmp_path) == {"3.archive"}


def test_c7_a_subfolder(kaggle: FakeKaggle):
    kaggle.archives["owner", "flowers", 3] = flowers("Small/Pictures/")
    dataset = open_dataset(f"{SPEC}#Small/Pictures", 32)
    assert dataset.class_names == ("daisy", "rose") and dataset.spec == f"{SPEC}#Small/Pictures"
    assert kaggle.requests == [POST, GET]  # one archive, not a request a file


@pytest.mark.parametrize("subfolder", ["small/pictures", "Small/Picture", "../flowers", "/Small/Pictures/.."])
def test_c18_a_subfolder_that_is_not_there(kaggle: FakeKaggle, subfolder):
    kaggle.archives["owner", "flowers", 3] = flowers("Small/Pictures/")
    with pytest.raises(DatasetError, match=r"no folder.*Small/Pictures"):
        open_dataset(f"{SPEC}#{subfolder}", 32)


@pytest.mark.parametrize("disk", ["archive", "content"])
def test_c9_a_disk_that_is_too_small_is_found_out_first(kaggle: FakeKaggle, tmp_path, monkeypatch, disk):
    kaggle.archives["owner", "flowers", 3] = flowers(more_bytes=2 << 20)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1 << 20 if disk == "archive" else 3 << 20))
    with pytest.raises(DatasetError, match=r"free: make room"):
        collected(Time())
    assert not (tmp_path / "cache/datasets/owner/flowers/versions/3").exists()


def test_a10_a9_c18_options_hold_for_kaggle_and_messages_give_the_spec(kaggle: FakeKaggle):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        names = several("c", 6) + several("d", 6)
        for name in names:
            file.writestr(f"My set/train/{name}.png", encoded(picture(name)))
            file.writestr(f"two/{name[1]}/{name[0]}/x.png", encoded(picture(name)))
        file.writestr("My set/l.csv", "id,breed\n" + "".join(f"{name},{name[0]}\n" for name in names))
    kaggle.archives["owner", "flowers", 3] = buffer.getvalue()
    with pytest.raises(DatasetError, match=r"add .labels=l\.csv:id,breed") as caught:
        open_dataset(f"{SPEC}#My set", 8)
    assert pasted(str(caught.value)) == [f"{SPEC}#My set?labels=l.csv:id,breed"]
    assert open_dataset(pasted(str(caught.value))[0], 8).class_names == ("c", "d")
    with pytest.raises(DatasetError) as caught:
        open_dataset(f"{SPEC}#two", 8)
    assert pasted(str(caught.value)) == [f"{SPEC}#two?class=top", f"{SPEC}#two?class=leaf"]
    assert open_dataset(f"{SPEC}#two?class=leaf", 8).class_names == ("c", "d")


def test_c15_archives_in_the_archive_are_a_dataset(kaggle: FakeKaggle):
    outer, inner = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(inner, "w") as file:
        for name in several("t", 4):
            file.writestr(f"test1/{name}.png", encoded(picture(name)))
    with zipfile.ZipFile(outer, "w") as file:
        file.writestr("train.zip", flowers("train/"))
        file.writestr("test1.zip", inner.getvalue())
    kaggle.archives["owner", "flowers", 3] = outer.getvalue()
    dataset = open_dataset(SPEC, 8)
    assert dataset.class_names == ("daisy", "rose")
    assert "4 pictures in test1 have no class" in dataset.report.notes


def test_c16_a_class_twice_under_a_damaged_name(kaggle: FakeKaggle):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for folder, letter in (("Albrecht_Dürer", "d"), ("Albrecht_DuXYrer", "d"), ("Goya", "g")):
            for name in several(letter, 6):
                file.writestr(f"{folder}/{name}.png", encoded(picture(name)))
    archive = buffer.getvalue().replace(b"DuXY", b"Du\xcc\xea")  # no UTF-8: read as code page 437
    kaggle.archives["owner", "flowers", 3] = archive
    with pytest.raises(DatasetError, match=r"copies of each other .* without=") as caught:
        open_dataset(SPEC, 8)
    assert open_dataset(pasted(str(caught.value))[0], 8).labels.bincount().tolist() == [6, 6]


def test_a_service_out_of_reach(kaggle: FakeKaggle, monkeypatch):
    from kagglesdk import kaggle_env

    monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.PROD, "http://127.0.0.1:1")
    with pytest.raises(DatasetError, match=r"Kaggle does not answer .*folder:PATH"):
        open_dataset(SPEC, 32)


def test_c17_kagglehubs_log_goes_to_standard_error(kaggle: FakeKaggle, capfd):
    import kagglehub

    handlers = [each for each in logging.getLogger(kagglehub.__name__).handlers if hasattr(each, "stream")]
    streams = [getattr(handler, "stream") for handler in handlers]  # noqa: B009
    collected(Time())
    output = capfd.readouterr()
    assert "Downloading to" in output.err and output.out == ""
    assert [getattr(handler, "stream") for handler in handlers] == streams  # noqa: B009
