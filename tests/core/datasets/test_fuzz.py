"""Damaged input by the hundred: no crash, no hang, nothing outside. `make bench-fuzz` does it by ten thousands."""

from benchmarks.fuzz import fuzz, sound_files, spoilt


def test_sound_files_are_read():
    assert {given.what for given in fuzz(iter(sound_files()))} == {"read"}


def test_damaged_files_are_read_or_refused_and_the_seed_decides_them():
    given = list(fuzz(spoilt(300, seed=1)))
    wrong = [each for each in given if each.what in ("crash", "hang", "outside", "read beyond the limit")]
    assert not wrong
    assert {each.source.kind for each in given} == {"archive", "picture"}
    assert any(each.what == "read" for each in given) and any(each.what != "read" for each in given)
    assert [each.source.data for each in given[:50]] == [each.data for each in spoilt(50, seed=1)]
