"""Settings of a space as people write them."""

import json
import re
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest

from pipeline.commands.parsing import SETTINGS_HELP
from pipeline.space.config_file import config_of, read_settings
from tans_core.cross_modal.meta_training import SpaceConfig
from tans_core.errors import ConfigError

OTHER = {int: lambda value: value + 1, float: lambda value: value / 2, str: lambda value: "hinges"}


def written(folder: Path, text: str, name: str = "settings.json") -> Path:
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", [field.name for field in fields(SpaceConfig)])
def test_every_field_is_a_setting_in_json_and_in_toml(tmp_path, name):
    value = asdict(SpaceConfig())[name]
    other = OTHER[type(value)](value)
    as_json = written(tmp_path, json.dumps({name: other}))
    as_toml = written(tmp_path, f"{name} = {json.dumps(other)}\n", "settings.toml")
    assert read_settings(as_json) == read_settings(as_toml) == {name: other}
    assert replace(SpaceConfig(), **read_settings(as_toml)) != SpaceConfig()


def test_the_help_names_them_all():
    assert set(re.findall(r"\w+", SETTINGS_HELP)) >= {field.name for field in fields(SpaceConfig)}


def test_steps_of_the_command_line_come_before_those_of_the_file(tmp_path):
    path = written(tmp_path, '{"steps": 7, "dim": 16}')
    assert config_of(path, None) == SpaceConfig(steps=7, dim=16)
    assert config_of(path, 9) == SpaceConfig(steps=9, dim=16)
    assert config_of(None, 9) == SpaceConfig(steps=9)
    with pytest.raises(ConfigError, match="steps must be at least 1, got 0"):
        config_of(path, 0)


def test_a_whole_number_is_good_for_a_number(tmp_path):
    settings = read_settings(written(tmp_path, '{"predictor": 10}'))
    assert settings == {"predictor": 10.0} and type(settings["predictor"]) is float


def test_the_config_of_a_space_is_one(tmp_path):
    whole = {"schema": 2, "zoo_id": "5e", "config": {"dim": 64}, "shape": {"dim": 64}}
    assert read_settings(written(tmp_path, json.dumps(whole))) == {"dim": 64}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"peak_rl": 0.1}', r"settings\.json: there is no setting 'peak_rl'; did you mean peak_lr\?"),
        ('{"x": 1}', "there is no setting 'x'; there are dim, hidden, steps"),
        ('{"dim": 64.0}', r"dim must be a whole number, got 64\.0"),
        ('{"dim": true}', "dim must be a whole number, got true"),
        ('{"margin": "0.2"}', 'margin must be a number, got "0.2"'),
        ('{"loss": null}', "loss must be a text, got null"),
        ("[1]", "holds list: it must name settings"),
        ("{", "is no JSON .*TOML is known by the ending .toml"),
    ],
)
def test_what_is_wrong_in_it_is_said(tmp_path, text, said):
    with pytest.raises(ConfigError, match=said):
        read_settings(written(tmp_path, text))


def test_a_file_that_is_not_there_and_toml_that_is_none_are_said(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.json cannot be read \(No such file"):
        read_settings(tmp_path / "none.json")
    with pytest.raises(ConfigError, match=r"is no TOML \("):
        read_settings(written(tmp_path, "dim: 64\n", "settings.toml"))


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"dim": 0}, "dim must be at least 1, got 0"),
        ({"temperature": 0.0}, r"temperature must be a number above 0, got 0\.0"),
        ({"peak_lr": float("inf")}, "peak_lr must be a number above 0, got inf"),
        ({"margin": -0.1}, r"margin must be a number of at least 0, got -0\.1"),
        ({"weight_decay": float("nan")}, "weight_decay must be a number of at least 0, got nan"),
        ({"dropout": 1.0}, r"dropout must be at least 0 and below 1, got 1\.0"),
        ({"loss": "triplet"}, "loss must be one of infonce, hinges, printed, got 'triplet'"),
    ],
)
def test_a_number_out_of_its_range_is_refused(setting, said):
    with pytest.raises(ConfigError, match=said):
        SpaceConfig(**setting)
