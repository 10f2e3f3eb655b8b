"""Copies of a query's pictures are counted, dataset by dataset."""

import hashlib

from tans_core.retrieval.known_pictures import known_pictures


def hashes(*names: str) -> bytes:
    return b"".join(hashlib.blake2b(name.encode(), digest_size=16).digest() for name in names)


def test_copies_are_counted_by_dataset_most_first():
    zoo = {"few": hashes("x", "b"), "none": hashes("y", "z"), "many": hashes("c", "a", "x", "b"), "unknown": b""}
    assert list(known_pictures(hashes("a", "b", "c", "d"), zoo).items()) == [("many", 3), ("few", 1)]


def test_a_hash_counts_where_it_stands_whole():
    one, two = hashes("a"), hashes("b")
    shifted = one[8:] + two + one[:8]
    assert known_pictures(one + two, {"shifted": shifted}) == {}


def test_a_query_of_unknown_pictures_has_no_copies():
    assert known_pictures(b"", {"some": hashes("a")}) == {}
