"""`tans predict`: classes and probabilities by name, each picture for itself."""

import json
from pathlib import Path

import pytest
import torch
from export_examples import CLASSES, PICTURES, an_export, classifier
from safetensors.torch import load_file, save_file

from pipeline import predict
from pipeline.cli import run
from tans_core.errors import WeightsError
from tans_core.training.augment import ImageBatches

SHARES = {"ash": 0.1, "birch": 0.7, "larch": 0.2}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("my network é")
    return folder, *an_export(folder)


@pytest.fixture()
def pictures(tmp_path: Path) -> list[Path]:
    for name in ("plain.png", "turned.png", "deep.png"):
        (tmp_path / name).write_bytes(PICTURES[name][0])
    return [tmp_path / name for name in ("plain.png", "turned.png", "deep.png")]


def with_a_classifier_that_always_says(shares: dict[str, float], folder: Path, made) -> Path:
    """The export with a classifier of bias alone: its probabilities are known by hand."""
    source, network, *_ = made
    folder.mkdir()
    for name in ("config.json", "exported.py"):
        (folder / name).write_bytes((source / "network" / name).read_bytes())
    state, outputs = load_file(source / "network" / "weights.safetensors"), sorted(CLASSES)
    (prefix,) = (name for name, layer in network.named_modules() if layer is classifier(network))
    state[f"{prefix}.weight"].zero_()
    state[f"{prefix}.bias"] = torch.tensor([shares[name] for name in outputs]).log()
    save_file(state, folder / "weights.safetensors")
    return folder


def test_the_probabilities_are_those_of_the_classes_by_name(made, pictures, tmp_path):
    found = predict(with_a_classifier_that_always_says(SHARES, tmp_path / "network", made), pictures)
    assert [each.picture for each in found.predictions] == [str(path) for path in pictures]
    for each in found.predictions:
        assert (each.class_name, each.probability) == ("birch", pytest.approx(0.7))
        assert each.probabilities == pytest.approx(SHARES) and list(each.probabilities) == sorted(SHARES)
        assert sum(each.probabilities.values()) == pytest.approx(1)


def test_pictures_of_the_dataset_get_what_the_network_gives_their_tensors_here(made):
    folder, network, space, dataset = made
    files = sorted(path for path in (folder / "pictures").rglob("*") if path.is_file())
    with torch.inference_mode():
        everything = torch.arange(len(files))
        here = network(ImageBatches(dataset, space, torch.device("cpu")).plain(everything)).softmax(dim=1)
    there = [
        tuple(each.probabilities[name] for name in dataset.class_names)
        for each in predict(folder / "network", files).predictions
    ]
    torch.testing.assert_close(
        torch.tensor(sorted(there)), torch.tensor(sorted(map(tuple, here.tolist()))), atol=1e-5, rtol=1e-4
    )


def test_a_picture_that_cannot_be_read_is_named_and_the_others_are_answered(made, pictures, tmp_path, capfd):
    page, gone, cut = tmp_path / "page.jpg", tmp_path / "gone é.png", tmp_path / "cut.png"
    page.write_bytes(b"<!DOCTYPE html><html>404")
    cut.write_bytes(PICTURES["wide.png"][0][:60])
    given = [str(path) for path in (pictures[0], page, gone, tmp_path, cut, pictures[1])]
    network = str(with_a_classifier_that_always_says(SHARES, tmp_path / "network", made))
    assert run(["predict", network, *given]) == 1
    said = capfd.readouterr()
    assert [line.split()[-3:] for line in said.out.splitlines()[2:]] == [["birch", "70.0", "%"]] * 2
    assert f"{page} is not read: is HTML, not a picture" in said.err
    assert f"{gone} is not read: No such file or directory" in said.err
    assert f"{tmp_path} is not read: Is a directory" in said.err and f"{cut} is not read: " in said.err
    assert run(["predict", network, *given, "--json", "-"]) == 1
    answers = json.loads(capfd.readouterr().out)["predictions"]
    assert [each["picture"] for each in answers] == given
    assert [each["class_name"] for each in answers] == ["birch", None, None, None, None, "birch"]
    assert answers[0]["probabilities"] == pytest.approx(SHARES) and answers[1]["unreadable"] == "is HTML, not a picture"


def test_all_readable_is_status_0(made, pictures, capfd):
    assert run(["predict", str(made[0] / "network"), *map(str, pictures)]) == 0
    said = capfd.readouterr()
    assert said.err == "" and len(said.out.splitlines()) == 2 + len(pictures)


def test_a_folder_without_an_export_is_said_with_the_way_out(made, pictures, tmp_path, capfd):
    assert run(["predict", str(tmp_path), str(pictures[0])]) == 1
    assert "holds no exported network (config.json is not there): give the folder that" in capfd.readouterr().err


@pytest.mark.parametrize("what", ["format", "network", "cut", "no json"])
def test_a_damaged_export_is_said_without_a_traceback(made, pictures, tmp_path, what):
    folder = with_a_classifier_that_always_says(SHARES, tmp_path / "network", made)
    config = json.loads((folder / "config.json").read_text())
    if what == "cut":
        (folder / "weights.safetensors").write_bytes((folder / "weights.safetensors").read_bytes()[:-9])
    elif what == "no json":
        (folder / "config.json").write_text("{")
    else:
        del config[what]
        (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match=r"cannot be loaded .*: write it again with `tans fine-tune`"):
        predict(folder, pictures)
