"""What the zoo keeps of datasets: a pinned version stays what it was."""

from dataclasses import replace

import pytest
from zoo_examples import dataset_record, new_zoo

from pipeline.growing.profiles import record_datasets
from pipeline.pools import InlinePool
from pipeline.running.signals import StopRequest
from tans_core.errors import DatasetError
from tans_core.search_space import make_search_space
from tests.synthetic import patterns

SPEC = "kaggle:owner/birds/versions/3"


def test_c2_a_pinned_version_that_is_another_dataset_is_refused(tmp_path):
    store = new_zoo(tmp_path)
    kept = store.record_dataset(replace(dataset_record("f3" * 16), spec=SPEC))
    same = replace(patterns(), fingerprint=kept.fingerprint, spec=SPEC)
    changed = replace(patterns(), spec=SPEC)
    pool = InlinePool({}, make_search_space("ofa-lite"), lambda: None)
    (record,) = record_datasets(store, [same], pool, 60, StopRequest())
    assert record.fingerprint == kept.fingerprint
    with pytest.raises(DatasetError) as caught:
        record_datasets(store, [changed], pool, 60, StopRequest())
    for piece in (SPEC, kept.fingerprint, changed.fingerprint, "delete them"):
        assert piece in str(caught.value)


def test_a_dataset_that_the_zoo_has_under_another_name_is_named_as_its_copy(tmp_path, capsys):
    store = new_zoo(tmp_path)
    kept = store.record_dataset(dataset_record("f3" * 16, "birds"))
    pool = InlinePool({}, make_search_space("ofa-lite"), lambda: None)
    same = replace(patterns("birds"), fingerprint=kept.fingerprint)
    record_datasets(store, [same], pool, 60, StopRequest())
    assert "copy" not in capsys.readouterr().err
    record_datasets(store, [replace(same, name="vögel", spec="folder:vögel")], pool, 60, StopRequest())
    assert "folder:vögel is a copy of birds, which the zoo has from starter:birds" in capsys.readouterr().err
