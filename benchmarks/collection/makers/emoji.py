"""Emoji as several vendors draw them: what they show, and who drew them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from random import Random

from PIL import Image

from benchmarks.collection.dataset import Dataset, Item
from benchmarks.collection.makers.icon_sets import IconSet, package_of
from benchmarks.collection.packages import Packages
from benchmarks.collection.pictures import to_square, trimmed

SETS = (
    *("emojione", "emojione-monotone", "emojione-v1", "fluent-emoji", "fluent-emoji-flat"),
    *("fluent-emoji-high-contrast", "fxemoji", "noto", "noto-v1", "openmoji", "twemoji"),
)
UNICODE = "deb:unicode-data"
SUBGROUPS = {  # Unicode's subgroup, and the name of its class
    "emoji-faces": {
        name: name
        for name in (
            *("face-smiling", "face-affection", "face-tongue", "face-hand", "face-neutral-skeptical", "face-sleepy"),
            *("face-unwell", "face-concerned", "face-negative", "face-costume", "cat-face"),
        )
    },
    "emoji-living-things": {
        "animal-mammal": "mammal",
        "animal-bird": "bird",
        "animal-reptile": "reptile",
        "animal-marine": "sea animal",
        "animal-bug": "bug",
        "plant-flower": "flower",
        "plant-other": "other plant",
    },
    "emoji-food": {
        "food-fruit": "fruit",
        "food-vegetable": "vegetable",
        "food-prepared": "prepared food",
        "food-asian": "Asian food",
        "food-sweet": "sweet",
        "drink": "drink",
        "dishware": "dishware",
    },
    "emoji-objects": {
        name: name
        for name in (
            *("clothing", "musical-instrument", "computer", "light & video", "book-paper", "money", "mail", "writing"),
            *("office", "tool", "medical", "household"),
        )
    },
    "emoji-travel": {
        "place-building": "building",
        "place-religious": "religious building",
        "transport-ground": "ground transport",
        "transport-water": "water transport",
        "transport-air": "air transport",
        "time": "time",
        "sky & weather": "sky and weather",
    },
}


@dataclass(frozen=True)
class Emoji:
    """One of Unicode's list."""

    code: str  # as "1f468-200d-1f373", without what only asks for colour
    group: str
    subgroup: str


def emoji_subgroups(group: str, packages: Packages, chance: Random) -> Iterator[Item]:
    classes = SUBGROUPS[group]
    wanted = [emoji for emoji in _listed(packages) if emoji.subgroup in classes]
    for icons, names in _sets(packages):
        for emoji in wanted:
            if emoji.code in names:
                picture = _picture(icons, names[emoji.code])
                if picture is not None:
                    yield picture, classes[emoji.subgroup]


def emoji_vendors(packages: Packages, chance: Random) -> Iterator[Item]:
    wanted = [each for each in _listed(packages) if each.subgroup.startswith("person") or each.group == "Activities"]
    for icons, names in _sets(packages):
        here = [emoji for emoji in wanted if emoji.code in names]
        for emoji in chance.sample(here, min(110, len(here))):
            picture = _picture(icons, names[emoji.code])
            if picture is not None:
                yield picture, icons.name


def _picture(icons: IconSet, name: str) -> Image.Image | None:
    drawn = icons.draw(name, 80)
    return to_square(drawn, 40) if drawn is not None and trimmed(drawn).width > 8 else None


def _listed(packages: Packages) -> list[Emoji]:
    """All emoji without a colour of skin."""
    listing, group, subgroup = [], "", ""
    table = packages.unpacked(UNICODE) / "usr/share/unicode/emoji/emoji-test.txt"
    for line in table.read_text().splitlines():
        if line.startswith("# group:"):
            group = line.split(":")[1].strip()
        elif line.startswith("# subgroup:"):
            subgroup = line.split(":")[1].strip()
        elif "; fully-qualified" in line:
            codes = line.split(";")[0].split()
            if not any("1F3FB" <= code <= "1F3FF" for code in codes if len(code) == 5):
                listing.append(Emoji("-".join(code.lower() for code in codes if code != "FE0F"), group, subgroup))
    return listing


def _sets(packages: Packages) -> list[tuple[IconSet, dict[str, str]]]:
    """Every set with its icons by code. One without a list of codes is read by the names that the others use."""
    sets = [IconSet(packages, name) for name in SETS]
    by_code = [{code.lower().replace("-fe0f", ""): icon for code, icon in sorted(each.chars.items())} for each in sets]
    common: dict[str, str] = {}
    for names in by_code:
        for code, icon in names.items():
            common.setdefault(code, icon)
    of_others = [{code: icon for code, icon in common.items() if icon in each.icons} for each in sets]
    pairs = [(each, own or others) for each, own, others in zip(sets, by_code, of_others, strict=True)]
    return [(each, names) for each, names in pairs if names]


_PACKAGES = (*map(package_of, SETS), UNICODE)
DATASETS = (
    *(
        Dataset(
            name=group,
            make=partial(emoji_subgroups, group),
            source="emoji",
            kind="drawing",
            packages=_PACKAGES,
            native="vector",
            note="Emoji as drawn by several vendors; the class is Unicode's subgroup. Several vendors draw the same "
            "emoji.",
            most_per_class=130,
            jpeg=90,
        )
        for group in SUBGROUPS
    ),
    Dataset(
        name="emoji-vendors",
        make=emoji_vendors,
        source="emoji",
        kind="drawing",
        packages=_PACKAGES,
        native="vector",
        note="Who drew it: the class is the emoji set. People, activities and symbols, none of which is in another "
        "dataset here.",
        most_per_class=90,
        jpeg=90,
    ),
)
