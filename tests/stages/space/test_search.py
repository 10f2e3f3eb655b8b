"""Search as a stage: the query is a copy of a dataset whose networks are in the zoo."""

import json
import shlex
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.modules.module import register_module_forward_pre_hook

from pipeline.cli import run
from pipeline.space import search as stage
from pipeline.space.meta_train import meta_train
from pipeline.space.space_folder import load_space
from pipeline.zoo import Zoo
from pipeline.zoo.latency import Latency, device_name, write_table
from tans_core.cross_modal.describe import describe
from tans_core.cross_modal.meta_training import SpaceConfig
from tans_core.datasets.opening import open_dataset
from tans_core.errors import ConfigError, DatasetError, NoFeasibleRow, SpaceError, WeightsError
from tans_core.jobs import Outcome
from tans_core.records import Features
from tans_core.search_space.latency import LatencyTable, PartTimes, Setting
from tans_core.search_space.topology import Layout
from tests.worlds import SETTINGS, World

WORLD = World(datasets=5, rows_each=3, sources=5, feature_dim=1280)
TWIN, MASK = 2, 0  # datasets of the world that look like the query's training pictures, and like its test pictures
search = partial(stage.search, probe=0)  # a world's weights are of no network: `test_probing.py` has real ones
CONFIG = SpaceConfig(dim=32, hidden=16, steps=60, evaluate_every=30, validation_draws=2)


def _query(folder: Path) -> str:
    """Stripes to train on, and a test part of its own in which there are none."""
    generator = torch.Generator().manual_seed(0)
    for name, shape in (("across", (32, 1)), ("along", (1, 32))):
        stripe = 200 * (torch.arange(32) // 4 % 2).reshape(shape)
        _pictures(folder / "train" / name, stripe + torch.randint(0, 55, (12, 32, 32), generator=generator))
        _pictures(folder / "test" / name, torch.randint(0, 120, (6, 32, 32), generator=generator))
    return f"folder:{folder}"


def _pictures(folder: Path, images: torch.Tensor) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images):
        Image.fromarray(image.to(torch.uint8).numpy()).save(folder / f"{number}.png")


def _reversed_in_test(outcome: Outcome) -> Outcome:
    """The more right in validation, the fewer in test."""
    trained = outcome.trained
    assert trained is not None
    return replace(outcome, trained=replace(trained, test_correct_by_class=(100 - trained.val_correct // 2,)))


@pytest.fixture(scope="module")
def house(tmp_path_factory) -> tuple[str, str, Path]:
    """Query, zoo and space. The zoo's other datasets have features of nothing that exists."""
    folder = tmp_path_factory.mktemp("house?")  # a name that SQLite cannot spell: no MLflow
    spec = _query(folder / "query")
    records = WORLD.records()
    seen = describe(open_dataset(spec, SETTINGS.image_size)).features
    train, test = (seen.train_ND, seen.train_labels_N), (seen.test_ND, seen.test_labels_N)
    for place, (features, labels) in ((TWIN, train), (MASK, test)):
        likeness = Features(
            train_ND=features,
            train_labels_N=labels,
            validation_ND=features,
            validation_labels_N=labels,
            test_ND=features,
            test_labels_N=labels,
        )
        records[place] = replace(records[place], features=likeness, class_names=("across", "along"))
    zoo = Zoo.create(folder / "zoo", replace(SETTINGS, schema=Zoo.SCHEMA_VERSION))
    kept = {record.fingerprint: zoo.record_dataset(record) for record in records}
    outcomes = [_reversed_in_test(each) for each in WORLD.outcomes()]
    zoo.commit(outcomes, kept)
    timed = [(each.job.key, 2.0 + number) for number, each in enumerate(outcomes) if number % 3]
    zoo.write_latencies(
        [Latency(key, device_name(), 1, p50_ms, p50_ms, p50_ms, 5) for key, p50_ms in timed]
        + [Latency(outcomes[0].job.key, "another device", 1, 0.1, 0.1, 0.1, 5)]
    )
    meta_train(zoo.uri, folder / "space", config=CONFIG)
    return spec, zoo.uri, folder / "space"


def test_the_nearest_rows_are_those_of_the_dataset_that_the_query_is_a_copy_of(house):
    found = search(*house, top=3)
    assert {entry.dataset for entry in found.entries} == {f"dataset {TWIN}"} and len(found.entries) == 3
    measured = [entry.zoo_accuracy or 0 for entry in found.entries]
    assert measured == sorted(measured, reverse=True) and measured[0] > measured[-1]
    row = Zoo.open(house[1]).snapshot().row_by_key[found.entries[0].key]
    best = found.entries[0]
    assert (best.params, best.flops, best.zoo_accuracy) == (row.costs.params, row.costs.flops, row.val_accuracy)
    assert best.zoo_chance == 0.25 and found.predicted_error == load_space(house[2]).error
    assert found.rows_searched == found.rows_feasible == 15 and found.rows_unseen == 0


def test_an_answer_says_why_nearest_datasets_by_name_and_similarity(house):
    """The twin's training images are the query's own: no dataset can be nearer. Strangers are less near."""
    found = search(*house, top=40)
    assert [each.similarity for each in found.nearest] == sorted([each.similarity for each in found.nearest])[::-1]
    assert (found.nearest[0].name, found.nearest[0].source) == (f"dataset {TWIN}", f"source {TWIN}")
    assert found.nearest[0].similarity == pytest.approx(1, abs=1e-5) and not found.unlike
    assert found.bar is not None and found.nearest[1].similarity < 0.9
    best = found.entries[0]
    assert best.why[0] == f"dataset {TWIN} is the nearest of 5 datasets (1.00)"
    (start,) = [each for each in found.entries if each.key.startswith("start:")]
    assert start.why == (f"no source: before all that are less near than strangers are ({found.bar:.2f})",)
    second = next(each for each in found.entries if each.dataset == found.nearest[1].name)
    assert second.why[0] == (
        f"{second.dataset} is number 2 of 5 by nearness "
        f"({found.nearest[1].similarity:.2f}; dataset {TWIN} is nearest, 1.00)"
    )
    far = [each for each in found.entries if f"no nearer than strangers are ({found.bar:.2f})" in each.why]
    assert far and [*found.entries].index(far[0]) == [*found.entries].index(start) + 1


def test_pictures_of_the_querys_validation_and_test_change_nothing(house, tmp_path):
    spec, zoo, space = house
    shutil.copytree(spec.removeprefix("folder:"), tmp_path / "query")
    trained_on = _training_images(spec)
    generator = torch.Generator().manual_seed(1)
    for name in ("across", "along"):
        _pictures(tmp_path / "query/test" / name, torch.randint(0, 256, (6, 32, 32), generator=generator))
        for path in (tmp_path / "query/train" / name).iterdir():
            of_validation = not (torch.from_numpy(np.array(Image.open(path))) == trained_on[:, 0]).all((1, 2)).any()
            while of_validation:
                noise = torch.randint(0, 256, (32, 32), generator=generator).to(torch.uint8)
                Image.fromarray(noise.numpy()).save(path)
                if torch.equal(_training_images(f"folder:{tmp_path / 'query'}"), trained_on):
                    break  # the new picture is one for validation too: hashes decide
    found, other = search(*house, top=15), search(f"folder:{tmp_path / 'query'}", zoo, space, top=15)
    assert found.fingerprint != other.fingerprint and found.entries == other.entries


def _training_images(spec: str) -> torch.Tensor:
    dataset = open_dataset(spec, SETTINGS.image_size)
    return dataset.images[dataset.train]


def test_a_shorter_list_is_the_head_of_a_longer_one_and_a_limit_takes_rows_out_of_it(house):
    whole = [entry.key for entry in search(*house, top=100).entries]
    assert len(whole) == 15 + 1 and sum(key.startswith("start:") for key in whole) == 1
    assert [entry.key for entry in search(*house, top=3).entries] == whole[:3]
    assert [entry.key for entry in search(*house).entries] == whole[:10]
    timed = {each.key for each in Zoo.open(house[1]).latencies() if each.device == device_name()}
    limited = [entry.key for entry in search(*house, top=100, max_latency_ms=100).entries]
    assert [key for key in limited if key in timed] == [key for key in whole if key in timed]
    (start,) = [key for key in limited if key not in timed]
    assert start.removeprefix("start:") in timed  # the smallest that is feasible


def test_rows_without_their_weights_are_passed_over_and_said(house, tmp_path, capsys):
    spec, zoo, space = house
    shutil.copytree(zoo, tmp_path / "zoo")
    before = search(*house, top=40)
    store = Zoo.open(str(tmp_path / "zoo"))
    rows = store.snapshot().row_by_key
    gone, cut = (rows[entry.key] for entry in before.entries[:2])
    (tmp_path / "zoo" / gone.weights.path).unlink()
    (tmp_path / "zoo" / cut.weights.path).write_bytes(b"too short")
    found = search(spec, store.uri, space, top=40)
    assert found.entries == before.entries[2:]
    assert (found.rows_without_weights, found.rows_feasible) == (2, 13)
    first = min(gone.key, cut.key, key=list(rows).index)
    assert (
        f"2 rows have weights that are gone or of another size, {first} first, and were passed over: "
        f"`tans zoo verify --zoo {shlex.quote(store.uri)}` names them" in capsys.readouterr().err
    )
    shutil.rmtree(tmp_path / "zoo" / "weights")
    with pytest.raises(WeightsError, match=r"all 5 feasible rows of .* put the weights folder back .*`tans zoo verify"):
        search(spec, store.uri, space, max_params=1_004_000)


def test_the_starting_weights_stand_in_the_list_in_the_smallest_shape_and_know_no_source(house):
    found = search(*house, top=40)
    (start,) = [entry for entry in found.entries if entry.key.startswith("start:")]
    row = Zoo.open(house[1]).snapshot().row_by_key[start.key.removeprefix("start:")]
    assert (start.params, start.flops) == (row.costs.params, row.costs.flops)
    assert start.params == min(entry.params for entry in found.entries)
    assert (start.dataset, start.source, start.similarity, start.zoo_accuracy, start.zoo_chance) == (None,) * 5
    (of_row,) = [entry for entry in found.entries if entry.key == row.key]
    assert start.predicted_accuracy == of_row.predicted_accuracy  # what a row is predicted as was trained from them


def test_a_query_unlike_anything_that_is_feasible_is_flagged_and_the_starting_weights_come_first(house, capfd):
    spec, zoo, space = house
    found = search(*house, max_params=1_004_000)  # rows 0 to 4, none of the twin's
    assert found.unlike and found.entries[0].key.startswith("start:")
    assert found.nearest[0].name == f"dataset {TWIN}"  # whatever the limits
    assert run(["search", spec, "--zoo", zoo, "--space", str(space), "--probe", "0", "--max-params", "1004000"]) == 0
    said = capfd.readouterr().out
    assert "Nothing that is feasible is like query: the nearest dataset of the zoo is dataset 2 (1.00)" in said
    (line,) = (line for line in said.splitlines() if line.startswith("Next: "))
    assert shlex.split(line)[6:8] == ["--row", found.entries[0].key]


def test_limits_are_kept_and_search_goes_on_behind_the_nearest(house):
    found = search(*house, top=10, max_params=1_004_000)  # rows 0 to 4, none of the twin's
    assert len(found.entries) == found.rows_feasible + 1 == 5 + 1
    assert all(entry.params <= 1_004_000 and entry.dataset != f"dataset {TWIN}" for entry in found.entries)


def test_networks_never_timed_here_are_left_out_of_a_search_by_latency_and_counted(house, capsys):
    found = search(*house, top=15, max_latency_ms=100)
    assert len(found.entries) == 10 + 1 and found.rows_without_latency == 5
    assert all(entry.latency_ms is not None for entry in found.entries)
    assert "5 rows were never timed on this machine" in capsys.readouterr().err


def _table(device: str, batch: int = 1, **other) -> LatencyTable:
    """Predicts 50 ms for every network of the world and 0.5 ms for each class beyond two."""
    layout = Layout(stage_blocks=(4,), kernel_choices=(3, 5, 7), expand_choices=(3, 5, 7), depth_choices=(3, 5, 7))
    setting = {"search_space": SETTINGS.search_space, "width": SETTINGS.width, "image_size": SETTINGS.image_size}
    return LatencyTable(
        setting=Setting(device=device, batch=batch, **setting | other),
        layout=layout,
        parts=PartTimes(stem_ms=50.0, head_ms=0.0, class_ms=0.5, block_ms_BVV=torch.zeros(4, 4, 4).double()),
        slope=1.0,
        intercept_ms=0.0,
        unseen=30,
        error_median=0.021,
        error_p95=0.056,
    )


@pytest.fixture
def own(house, tmp_path) -> tuple[str, str, Path]:
    """The house with a zoo of the test's own."""
    shutil.copytree(house[1], tmp_path / "zoo")
    return house[0], str(tmp_path / "zoo"), house[2]


def test_a_row_that_was_never_timed_here_is_predicted_by_the_zoos_table_and_said(house, own, capsys):
    Zoo.open(own[1]).write_latency_table(_table(device_name()))
    before = {entry.key: entry for entry in search(*house, top=40).entries}
    capsys.readouterr()
    found = search(*own, top=40, max_latency_ms=60)
    assert [entry.key for entry in found.entries] == [*before]
    for entry in found.entries:
        measured = before[entry.key].latency_ms
        classes = len(Zoo.open(own[1]).snapshot().row_by_key[entry.key.removeprefix("start:")].class_names)
        assert entry.latency_predicted == (measured is None)
        assert entry.latency_ms == (pytest.approx(50 + 0.5 * (classes - 2)) if measured is None else measured)
    assert (found.rows_latency_predicted, found.rows_without_latency, found.latency_error) == (5, 0, (0.021, 0.056))
    assert (found.latency_device, found.latency_batch) == (device_name(), 1)
    assert "5 rows were never timed on" in (said := capsys.readouterr().err)
    assert "to within 2.1 % (median), 5.6 % (95 of 100)" in said
    assert len(search(*own, top=15, max_latency_ms=40).entries) == 10 + 1


@pytest.mark.parametrize(
    "other",
    [{"device": "cpu: another"}, {"batch": 8}, {"image_size": 64}, {"search_space": "ofa-mbv3"}, {"width": 1.2}],
)
def test_a_table_of_another_setting_is_not_used_silently(own, tmp_path, other):
    table = _table(**{"device": device_name(), **other})
    Zoo.open(own[1]).write_latency_table(table)
    assert search(*own, max_latency_ms=60).rows_without_latency == 5
    write_table(tmp_path / "table.json", table)
    if {*other} <= {"device", "batch"}:
        found = search(*own, latency_table=tmp_path / "table.json")
        assert (found.latency_device, found.latency_batch) == (table.setting.device, table.setting.batch)
    else:
        with pytest.raises(ConfigError, match=r"is of .* at \d+ px and the zoo of ofa-lite x1 at 32 px"):
            search(*own, latency_table=tmp_path / "table.json")


def test_a_table_that_is_named_may_be_of_another_device_which_is_said(house, tmp_path, capfd):
    write_table(tmp_path / "table.json", _table("another device"))
    spec, zoo, space = house
    asked = [
        "search",
        spec,
        "--zoo",
        zoo,
        "--space",
        str(space),
        "--probe",
        "0",
        "--latency-table",
        str(tmp_path / "table.json"),
    ]
    assert run([*asked, "--max-latency-ms", "60", "--top", "15"]) == 0
    said = capfd.readouterr()
    assert "latencies are of another device, one image at once" in said.err
    found = search(*house, top=15, latency_table=tmp_path / "table.json")
    timed = [entry for entry in found.entries if not entry.latency_predicted]
    assert [entry.latency_ms for entry in timed] == [0.1, 0.1]  # the one that was timed there, and without its source
    assert f"{found.entries[0].latency_ms:.3g} predicted" in said.out and said.out.count(" predicted") >= 14


def test_nothing_feasible_names_the_nearest_and_what_to_raise(house):
    with pytest.raises(NoFeasibleRow, match=r"none of 15 rows in .*params <= 900,000.* ask for `--max-params 1000000`"):
        search(*house, max_params=900_000)


def test_e7_a_space_answers_wherever_zoo_and_space_lie_and_says_what_it_has_not_seen(house, tmp_path, capsys):
    spec, zoo, space = house
    moved, moved_space = tmp_path / "elsewhere", tmp_path / "its space"
    shutil.copytree(zoo, moved)
    shutil.copytree(space, moved_space)
    store = Zoo.open(str(moved))
    store.commit(replace(WORLD, rows_each=4).outcomes(), store.snapshot().datasets)
    found = search(spec, str(moved), moved_space, top=3)
    assert [entry.key for entry in found.entries] == [entry.key for entry in search(*house, top=3).entries]
    assert found.rows_unseen == store.row_count() - 15 > 0
    assert f"{found.rows_unseen} rows of the zoo are younger than the space" in capsys.readouterr().err


def test_a_space_of_another_zoo_is_refused(house, tmp_path):
    spec, _, space = house
    other = Zoo.create(tmp_path / "other", replace(SETTINGS, schema=Zoo.SCHEMA_VERSION, zoo_id="99" * 16))
    with pytest.raises(ConfigError, match=r"learned over the zoo 5e5e.* is 9999.*tans meta-train"):
        search(spec, other.uri, space)


@pytest.mark.parametrize("other", [{"search_space": "ofa-mbv3"}, {"image_size": 64}])
def test_a_space_of_another_search_space_or_image_size_is_refused(house, tmp_path, other):
    spec, zoo, space = house
    shutil.copytree(space, tmp_path / "space")
    config = json.loads((space / "config.json").read_text())
    (tmp_path / "space" / "config.json").write_text(json.dumps({**config, **other}))
    with pytest.raises(SpaceError, match=r"was learned on .* and the zoo has ofa-lite at 32 px.*tans meta-train"):
        search(spec, zoo, tmp_path / "space")


def test_a_zoo_that_lost_rows_since_is_refused(house, tmp_path):
    spec, zoo, space = house
    kept = Zoo.open(zoo).settings
    older = Zoo.create(tmp_path / "older", kept)
    older.commit(WORLD.outcomes()[:9], Zoo.open(zoo).datasets())
    with pytest.raises(
        ConfigError, match=r"6 rows of the space in .* are not in .*older, .* first: the zoo is an older"
    ):
        search(spec, older.uri, space)


def test_a_query_of_one_class_and_one_of_three_pictures_are_refused(house, tmp_path):
    _, zoo, space = house
    noise = torch.randint(0, 256, (12, 32, 32), generator=torch.Generator().manual_seed(0))
    _pictures(tmp_path / "one" / "alone", noise)
    with pytest.raises(DatasetError, match="one class"):
        search(f"folder:{tmp_path / 'one'}", zoo, space)
    _pictures(tmp_path / "three" / "a", noise[:2])
    _pictures(tmp_path / "three" / "b", noise[2:3])
    with pytest.raises(DatasetError, match="5"):
        search(f"folder:{tmp_path / 'three'}", zoo, space)


def test_grey_pictures_of_16_bits_are_answered_as_those_of_8_bits_are(house, tmp_path):
    """Each pixel times 257: the same picture of 16 bits."""
    spec, zoo, space = house
    for path in Path(spec.removeprefix("folder:")).rglob("*.png"):
        deep = tmp_path / path.relative_to(spec.removeprefix("folder:")).with_suffix(".tiff")
        deep.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.array(Image.open(path)).astype(np.uint16) * 257).save(deep)
    ours, other = search(*house), search(f"folder:{tmp_path}", zoo, space)
    assert other.nearest[0].name == ours.nearest[0].name and other.nearest[0].similarity > 0.95


def test_a_space_of_other_features_is_refused(house, tmp_path):
    spec, zoo, space = house
    shutil.copytree(space, tmp_path / "space")
    config = json.loads((space / "config.json").read_text())
    (tmp_path / "space" / "config.json").write_text(json.dumps({**config, "backbone": "resnet"}))
    with pytest.raises(SpaceError, match="features of the backbone resnet"):
        search(spec, zoo, tmp_path / "space")


@pytest.mark.parametrize("schema", [1, 2])
def test_a_space_of_an_older_schema_is_refused(house, tmp_path, schema):
    spec, zoo, space = house
    shutil.copytree(space, tmp_path / "space")
    config = json.loads((space / "config.json").read_text())
    (tmp_path / "space" / "config.json").write_text(json.dumps({**config, "schema": schema}))
    with pytest.raises(SpaceError, match=f"of schema {schema} and this tans reads 3: run `tans meta-train` again"):
        search(spec, zoo, tmp_path / "space")


def test_the_words_say_what_each_number_is_and_end_with_the_next_command(house, capfd):
    spec, zoo, space = house
    assert run(["search", spec, "--zoo", zoo, "--space", str(space), "--probe", "0", "--max-params", "3M"]) == 0
    said = capfd.readouterr().out
    found = search(*house)
    best, error = found.entries[0], round(100 * (found.predicted_error or 0))
    assert f"{100 * best.predicted_accuracy:.1f} % +- {error}" in said and f"not seen: +- {error} points" in said
    assert f"{100 * best.zoo_accuracy:.1f} %, chance 25.0 %" in said
    (line,) = (line for line in said.splitlines() if line.startswith("Next: "))
    assert shlex.split(line)[1:] == [
        *("tans", "fine-tune", spec, "--zoo", zoo, "--row", best.key, "--out", "network")
    ]  # as a shell reads it
    assert said.endswith(f"--row start:{best.key}\n")


def test_what_is_said_to_be_enough_can_be_pasted(house, capfd):
    spec, zoo, space = house
    asked = ["search", spec, "--zoo", zoo, "--space", str(space), "--probe", "0", "--max-params", "900,000"]
    assert run(asked) == 1
    told = capfd.readouterr().err.rsplit("`", 2)[1]
    assert run([*asked, *shlex.split(told)]) == 0


def test_no_space_and_no_top_are_said(house, tmp_path):
    spec, zoo, space = house
    with pytest.raises(SpaceError, match=r"there is no config.json; `tans meta-train"):
        search(spec, zoo, tmp_path)
    with pytest.raises(ConfigError, match="--top must be at least 1"):
        search(spec, zoo, space, top=0)


def test_pictures_of_the_query_that_are_in_the_zoo_are_counted_and_said(house, tmp_path, capsys):
    spec, zoo, space = house
    shutil.copytree(zoo, tmp_path / "zoo")
    query, store = open_dataset(spec, SETTINGS.image_size), Zoo.open(str(tmp_path / "zoo"))
    record = store.datasets()[WORLD.records()[TWIN].fingerprint]
    for fingerprint, name, count in (("aa" * 16, "zebras", 24), ("bb" * 16, "fences", 5), ("cc" * 16, "fences", 2)):
        others = bytes(range(32))
        store.record_dataset(
            replace(record, fingerprint=fingerprint, name=name, image_hashes=others + query.image_hashes[-16 * count :])
        )
    found = search(spec, store.uri, space)
    assert found.known_pictures == {"zebras": 24, "fences (bbbbbb)": 5, "fences (cccccc)": 2}
    said = capsys.readouterr().err
    assert "24 of your 36 pictures are in zebras" in said and "5 of your 36 pictures are in fences (bbbbbb)" in said
    assert "5 datasets of the zoo were recorded before" in said
    assert search(*house).known_pictures == {}


def test_torch_has_one_thread_while_a_query_is_read_and_embedded(house):
    seen: set[int] = set()
    hook, before = (
        register_module_forward_pre_hook(lambda *_: seen.add(torch.get_num_threads())),
        torch.get_num_threads(),
    )
    torch.set_num_threads(3)
    try:
        found = search(*house)
        assert seen == {1} and found.threads == 1 and torch.get_num_threads() == 3
    finally:
        hook.remove()
        torch.set_num_threads(before)
    with pytest.raises(ConfigError, match="--threads must lie between 1 and"):
        search(*house, threads=0)
