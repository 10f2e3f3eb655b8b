"""What an interface icon means, and which set it is from."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import partial
from random import Random

import numpy as np
from PIL import Image

from benchmarks.collection.dataset import Dataset, Item
from benchmarks.collection.makers.icon_sets import IconSet, package_of
from benchmarks.collection.packages import Packages
from benchmarks.collection.pictures import fit, grey, to_square

SIDE = 32
SETS = (
    "akar-icons ant-design basil bi bx bxs bytesize carbon charm ci cil clarity dashicons ei el entypo eos-icons ep "
    "eva fa fa6-solid feather fluent fontisto foundation gg gridicons grommet-icons healthicons heroicons ic "
    "icomoon-free icon-park-outline icon-park-solid iconoir ion jam la line-md lucide mage majesticons maki "
    "material-symbols mdi mingcute mynaui octicon oi pepicons-pop pepicons-print ph pixelarticons prime quill ri "
    "simple-line-icons solar streamline subway system-uicons tabler teenyicons typcn uil uis vaadin wpf zondicons"
)
STYLES = (
    "bytesize carbon charm ei entypo eva fa6-solid fluent gg icon-park-outline ion la line-md pixelarticons "
    "simple-line-icons solar streamline tabler teenyicons pepicons-print"
)
CONCEPTS = {  # the name of a class, and of icons that mean it
    "icon-concepts-1": {
        "home": "home house",
        "user": "user person account",
        "search": "search magnifying-glass magnify",
        "mail": "mail envelope email",
        "lock": "lock locked lock-closed",
        "unlock": "unlock lock-open unlocked",
        "calendar": "calendar",
        "clock": "clock time",
        "bell": "bell notification notifications",
        "camera": "camera",
        "image": "image picture photo",
        "star": "star",
        "heart": "heart favorite",
        "cart": "cart shopping-cart",
        "bin": "trash bin delete trash-can",
        "folder": "folder",
        "file": "file document",
        "printer": "printer print",
        "key": "key",
        "gift": "gift present",
    },
    "icon-concepts-2": {
        "cloud": "cloud",
        "sun": "sun sunny",
        "moon": "moon night",
        "umbrella": "umbrella",
        "lightning": "bolt lightning flash zap",
        "phone": "phone call telephone",
        "microphone": "microphone mic",
        "headphones": "headphones headphone headset",
        "speaker": "speaker volume-up volume sound",
        "play": "play play-arrow",
        "pause": "pause",
        "music": "music music-note musical-note musical-notes",
        "video": "video video-camera videocam",
        "battery": "battery battery-full battery-100",
        "wifi": "wifi",
        "laptop": "laptop",
        "monitor": "monitor desktop computer",
        "database": "database",
        "chart": "bar-chart chart-bar chart-bar-vertical chart",
        "pie chart": "pie-chart chart-pie",
    },
    "icon-concepts-3": {
        "car": "car",
        "lorry": "truck",
        "bus": "bus",
        "train": "train",
        "bicycle": "bike bicycle",
        "plane": "plane airplane flight",
        "rocket": "rocket",
        "globe": "globe earth world",
        "map": "map",
        "pin": "pin location map-pin location-pin marker",
        "compass": "compass",
        "flag": "flag",
        "book": "book",
        "pencil": "pencil edit pen",
        "brush": "brush paintbrush paint-brush",
        "scissors": "scissors cut",
        "link": "link",
        "paperclip": "paperclip attachment attach",
        "shield": "shield",
        "eye": "eye visibility view",
    },
}
_CONCEPT_WORDS = {word for group in CONCEPTS.values() for words in group.values() for word in words.split()}
_STYLE_ENDING = re.compile(
    r"-(outlined?|outline-rounded|fill(ed)?|solid|line(ar)?|bold|light|thin|duotone|bold-duotone|line-duotone|rounded|"
    r"round|sharp|twotone|two-tone|broken|regular|alt|o|[1-9]|1[0-9]|20|24|28|32|48|16|sharp-outline|outline-sharp|"
    r"circle|square)$"
)


def icon_concepts(group: str, packages: Packages, chance: Random) -> Iterator[Item]:
    classes = {word: label for label, words in CONCEPTS[group].items() for word in words.split()}
    for name in SETS.split():
        icons = IconSet(packages, name)
        taken: Counter[str] = Counter()
        for icon in sorted(icons.icons, key=lambda name: (len(name), name)):
            label = classes.get(_bare(icon))
            if label and taken[label] < 2:
                picture = _picture(icons, icon, chance)
                if picture is not None:
                    taken[label] += 1
                    yield picture, label


def icon_styles(packages: Packages, chance: Random) -> Iterator[Item]:
    for name in sorted(STYLES.split()):
        icons = IconSet(packages, name)
        others = sorted(icon for icon in icons.icons if _bare(icon) not in _CONCEPT_WORDS)
        for icon in chance.sample(others, min(64, len(others))):
            drawn = icons.draw(icon, 40)
            if drawn is not None:
                yield to_square(drawn, 40).convert("L"), name


def _bare(name: str) -> str:
    """An icon's name without what it says of its style."""
    shorter = _STYLE_ENDING.sub("", name)
    return name if shorter == name else _bare(shorter)


def _picture(icons: IconSet, name: str, chance: Random) -> Image.Image | None:
    """A grey 32 px picture: the icon a little smaller and off the middle, dark on light or light on dark."""
    drawn = icons.draw(name, 96)
    if drawn is None:
        return None
    side = chance.randint(24, SIDE - 1)
    drawn = drawn.resize((side, max(1, round(side * drawn.height / drawn.width))), Image.Resampling.LANCZOS)
    drawn = fit(drawn, SIDE)
    ground, ink = chance.randint(200, 255), chance.randint(0, 70)
    if chance.random() < 0.3:
        ground, ink = ink, ground
    canvas = Image.new("L", (SIDE, SIDE), ground)
    at = chance.randint(0, SIDE - drawn.width), chance.randint(0, max(0, SIDE - drawn.height))
    cover = grey(np.asarray(drawn.convert("RGBA"), dtype=float)[..., 3])
    canvas.paste(Image.new("L", drawn.size, ink), at, cover)
    darkest, lightest = canvas.getextrema()
    return canvas if lightest - darkest > 60 else None  # pyright: ignore[reportOperatorIssue]  # one band: two numbers


_PACKAGES = tuple(package_of(name) for name in SETS.split())
DATASETS = (
    *(
        Dataset(
            name=group,
            make=partial(icon_concepts, group),
            source="iconify icons",
            kind="drawing",
            packages=_PACKAGES,
            native="vector",
            note="What an interface icon means, over many icon sets; at most two icons of one meaning from one set.",
            most_per_class=90,
        )
        for group in CONCEPTS
    ),
    Dataset(
        name="icon-styles",
        make=icon_styles,
        source="iconify icons",
        kind="drawing",
        packages=_PACKAGES,
        native="vector",
        note="Which of twenty icon sets an icon is from; none of the meanings in icon-concepts-1 to 3.",
        most_per_class=60,
    ),
)
