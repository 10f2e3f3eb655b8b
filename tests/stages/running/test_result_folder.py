"""Where results go: what we did not write stays, and a result is there whole or not at all."""

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest

from pipeline.running.result_folder import new_result, refuse_foreign
from tans_core.errors import ConfigError


def is_ours(path: Path) -> bool:
    return path.is_file() and path.read_bytes().startswith(b"ours")


def write(folder: Path, overwrite: bool = False, text: str = "ours") -> None:
    with new_result(folder, is_ours, overwrite) as staging:
        for name in ("weights.safetensors", "config.json"):
            (staging / name).write_text(text)


def content(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_a_result_comes_into_a_new_folder_and_its_missing_parents(tmp_path):
    write(tmp_path / "a" / "b")
    assert content(tmp_path) == {"a/b/weights.safetensors": "ours", "a/b/config.json": "ours"}
    assert len(list((tmp_path / "a" / "b").iterdir())) == 2


def test_an_existing_result_is_refused_and_replaced_when_asked_for(tmp_path):
    write(tmp_path, text="ours, old")
    (tmp_path / "more.txt").write_text("ours, of the old result alone")
    with pytest.raises(ConfigError, match="holds a result already: name another folder, or give --overwrite"):
        write(tmp_path)
    assert content(tmp_path)["config.json"] == "ours, old"
    write(tmp_path, overwrite=True, text="ours, new")
    assert content(tmp_path) == {"weights.safetensors": "ours, new", "config.json": "ours, new"}


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["config.json", "thesis.odt", "training/notes.txt"])
def test_what_we_did_not_write_is_refused_by_its_content_whatever_its_name(tmp_path, name, overwrite):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("theirs")
    with pytest.raises(ConfigError, match=f"holds {name.split('/')[0]}, which tans did not write"):
        write(tmp_path, overwrite)
    assert content(tmp_path) == {name: "theirs"}


def test_hidden_files_and_empty_folders_are_neither_refused_nor_touched(tmp_path):
    (tmp_path / ".gitignore").write_text("theirs")
    (tmp_path / "lost+found").mkdir()
    write(tmp_path)
    write(tmp_path, overwrite=True)
    assert content(tmp_path)[".gitignore"] == "theirs" and (tmp_path / "lost+found").is_dir()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failed_run_leaves_things_as_they_were(tmp_path, error):
    write(tmp_path / "there", text="ours, old")
    before = content(tmp_path)
    for folder in ("there", "new/and/deep"):
        with pytest.raises(error), new_result(tmp_path / folder, is_ours, True) as staging:
            (staging / "config.json").write_text("half")
            raise error
    assert content(tmp_path) == before and [path.name for path in tmp_path.iterdir()] == ["there"]
    assert len(list((tmp_path / "there").iterdir())) == 2


def test_a_file_in_the_way_is_said_before_any_work(tmp_path):
    (tmp_path / "file").write_text("theirs")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ConfigError, match=r"--out .* cannot be a folder that is written to \(Not a directory\)"):
            write(folder)
    assert content(tmp_path) == {"file": "theirs"}


def test_a_parent_that_cannot_be_made_leaves_nothing_behind(tmp_path):
    with pytest.raises(ConfigError, match=r"File name too long\): name another"):
        write(tmp_path / "made" / ("x" * 300))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_said_before_any_work():
    folder, reached = Path(tempfile.mkdtemp()), []
    folder.chmod(0o555)
    nobody = os.geteuid() == 0  # root may write everywhere
    if nobody:
        os.seteuid(65534)
    try:
        with (
            pytest.raises(ConfigError, match=r"Permission denied\): name another"),
            new_result(folder, is_ours, False),
        ):
            reached.append("the work")
    finally:
        if nobody:
            os.seteuid(0)
        shutil.rmtree(folder)
    assert not reached


def test_a_result_that_somebody_else_wrote_meanwhile_is_kept_and_so_is_ours(tmp_path):
    with (
        pytest.raises(ConfigError, match=r"holds a result already.*The new result is in") as caught,
        new_result(tmp_path, is_ours, False) as staging,
    ):
        (staging / "config.json").write_text("ours, of the slower one")
        write(tmp_path, text="ours, of the faster one")
    assert content(tmp_path)["config.json"] == "ours, of the faster one"
    assert (staging / "config.json").read_text() == "ours, of the slower one" and str(staging) in str(caught.value)


def test_without_its_config_a_folder_never_looks_whole(tmp_path):
    """A kill between any two steps: config.json leaves first and comes last."""
    write(tmp_path, text="ours, old")
    seen = []
    real = os.replace

    def killed(source, target):
        seen.append((Path(target).name, (tmp_path / "config.json").exists()))
        real(source, target)

    with pytest.MonkeyPatch.context() as patch, suppress(ConfigError):
        patch.setattr(os, "replace", killed)
        write(tmp_path, overwrite=True)
    assert seen == [("weights.safetensors", False), ("config.json", False)]


def test_what_is_ours_is_told(tmp_path):
    assert refuse_foreign(tmp_path / "none", is_ours) == []
    write(tmp_path)
    assert [path.name for path in refuse_foreign(tmp_path, is_ours)] == ["config.json", "weights.safetensors"]
