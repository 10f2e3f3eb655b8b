"""One zoo has one name, and names that Delta would spoil are refused at the door."""

import os
from pathlib import Path

import pytest
from zoo_examples import DATASETS, new_zoo, outcome

from pipeline.zoo import Zoo
from pipeline.zoo.location import locate
from tans_core.errors import ConfigError


def test_e8_spellings_of_a_name_are_one_zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    new_zoo(tmp_path / "my zoo é")
    (tmp_path / "link").symlink_to(tmp_path / "my zoo é")
    spellings = [
        "my zoo é",
        "./my zoo é/",
        f"{tmp_path}/my zoo é",
        "~/my zoo é",
        f"{tmp_path}/elsewhere/..//my zoo é",
        "link",
        (tmp_path / "my zoo é").as_uri(),
        tmp_path / "my zoo é",
    ]
    assert {Zoo.open(spelling).uri for spelling in spellings} == {f"{tmp_path}/my zoo é"}


@pytest.mark.parametrize(
    "name", ["my zoo é", "#1", "why?", "100%", "a%zb", "日本", "{a}", 'a"b', "s3:x", " a ", "a&b=c"]
)
def test_e8_a_zoo_lives_in_a_folder_of_that_name(tmp_path: Path, name: str):
    zoo = new_zoo(tmp_path / name)
    zoo.commit([outcome(0)], DATASETS)
    assert Zoo.open(tmp_path / name).load_weights(zoo.snapshot().rows[0])
    assert sorted(os.listdir(tmp_path)) == [name]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("a%20b", "'%20'"),
        ("%e4", "'%e4'"),
        ("a\\b", r"'\\\\'"),
        ("a|b", "'|'"),
        ("a^b", "'^'"),
        ("a[b", "'['"),
        ("a]b", "']'"),
        ("a\nb", r"'\\n'"),
    ],
)
def test_e8_a_name_that_delta_cannot_take_is_refused_with_the_character(tmp_path: Path, name: str, found: str):
    with pytest.raises(ConfigError) as refusal:
        Zoo.exists(tmp_path / name)
    assert f"holds {found}".replace("\\\\", "\\") in str(refusal.value)
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize("uri", ["", "  ", "http://host/zoo", "memory://zoo"])
def test_what_is_no_place_for_a_zoo_is_refused(uri: str):
    with pytest.raises(ConfigError, match="give a folder"):
        locate(uri)


def test_an_object_store_is_located_with_its_options_and_not_taken_yet(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    place = locate("s3://bucket/zoos/one/")
    assert (place.uri, place.table("rows")) == ("s3://bucket/zoos/one", "s3://bucket/zoos/one/rows")
    assert place.storage_options["AWS_REGION"] == "eu-central-1"
    with pytest.raises(ConfigError, match="object store"):
        Zoo.open("s3://bucket/zoos/one/")
