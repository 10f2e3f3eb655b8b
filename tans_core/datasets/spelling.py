"""Spellings of a class's name: which are one name, and which only look as if they were.

In several folders, as in the splits of an archive, case and blanks do not count. `_` and `-` do; so does everything
where one place holds both spellings: there it is said, or asked.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

# Not before a digit that follows a digit or nothing: 1-12 and 11-2 are two names, and so are 5 and -5.
_SEPARATORS = re.compile(r"[\s_-]++(?!\d)|(?<=[^\s\d_-])[\s_-]+")


def tidy(name: str) -> str:
    """The name with single blanks inside it, and none around it."""
    return " ".join(name.split())


def name_key(name: str) -> str:
    """Equal for spellings of one name."""
    return tidy(name).casefold()


def spelt(names: Iterable[str]) -> str:
    """'a', 'b' and 'c', so that blanks are seen."""
    *most, last = map(repr, names)
    return f"{', '.join(most)} and {last}" if most else last


def difference(names: Iterable[str]) -> str:
    """In what spellings of one name differ."""
    names = set(names)
    in_case = len({name.casefold() for name in names}) < len(names)
    in_blanks = len({tidy(name) for name in names}) < len(names)
    return "case and blanks" if in_case == in_blanks else "case" if in_case else "blanks"


def alike(names: Iterable[str]) -> list[list[str]]:
    """Names that differ in case, blanks, `_` or `-` alone, in groups."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in sorted(names):
        groups[_SEPARATORS.sub("", name_key(name))].append(name)
    return [group for group in groups.values() if len(group) > 1]
