"""Clip art, sprites and playing cards."""

from __future__ import annotations

import re
from collections.abc import Iterator
from random import Random

from PIL import Image

from benchmarks.collection.dataset import Dataset, Item
from benchmarks.collection.packages import Packages
from benchmarks.collection.pictures import draw_svg, fit, flat, images_under, spread, to_square, trimmed

CLIPART = "usr/share/openclipart/png"
CLIPART_THEMES = (
    *("animals", "buildings", "decorations", "education", "electronics", "food", "geography", "office", "people"),
    *("plants", "tools", "transportation"),
)
CLIPART_SYMBOLS = {
    "arrow": "shapes/arrows",
    "star": "shapes/stars",
    "map symbol": "signs_and_symbols/map_symbols",
    "flag": "signs_and_symbols/flags",
    "diode display": "signs_and_symbols/led",
    "pattern": "special/patterns",
    "button": "computer/buttons",
    "music": "recreation/music",
    "lemon icon": "computer/icons/lemon-theme",
    "flat icon": "computer/icons/flat-theme",
}
WESNOTH, GRASS = "usr/share/games/wesnoth/1.16/data/core/images", (110, 125, 95)
WESNOTH_STRUCTURES = (
    *("bridge", "castle", "cave", "chasm", "embellishments", "interior", "portals", "village", "walls"),
    "unwalkable",
)
WESNOTH_MOVES = (  # what the names of an animation's frames end in
    "attack attacking defend idle bob bobbing die death dying melee ranged magic run running fly flying flap stand "
    "standing move moving leading heal healing recruit shadow n s ne nw se sw e w sword bow staff spear throw cast "
    "slam block bite claw fire charge swing thrust stab strike land halo"
)
RANKS = ("ace", "2", "3", "4", "5", "6", "7", "8", "9", "10", "jack", "queen", "king")
SUITS = ("clubs", "diamonds", "hearts", "spades")
BAIZE = (20, 90, 40)


def clipart_themes(packages: Packages, chance: Random) -> Iterator[Item]:
    folder = packages.unpacked("deb:openclipart-png") / CLIPART
    for theme in CLIPART_THEMES:
        paths = images_under(folder / theme)
        for path in chance.sample(paths, min(110, len(paths))):
            picture = to_square(trimmed(Image.open(path)), 48)
            if spread(picture) > 5:
                yield picture, theme


def clipart_symbols(packages: Packages, chance: Random) -> Iterator[Item]:
    folder = packages.unpacked("deb:openclipart-png") / CLIPART
    for label, place in CLIPART_SYMBOLS.items():
        paths = images_under(folder / place)
        for path in chance.sample(paths, min(90, len(paths))):
            yield to_square(trimmed(Image.open(path)), 40), label


def wesnoth_units(packages: Packages, chance: Random) -> Iterator[Item]:
    folder = packages.unpacked("deb:wesnoth-1.16-data") / WESNOTH / "units"
    moves = WESNOTH_MOVES.split()
    for people in sorted(path for path in folder.iterdir() if path.is_dir()):
        for path in images_under(people):
            words = re.split(r"[-+_]", path.stem)
            if not any(word in moves or re.search(r"\d$", word) for word in words[1:]):
                yield to_square(trimmed(Image.open(path)), 48, GRASS), people.name.replace("-", " ")


def wesnoth_structures(packages: Packages, chance: Random) -> Iterator[Item]:
    folder = packages.unpacked("deb:wesnoth-1.16-data") / WESNOTH / "terrain"
    for label in WESNOTH_STRUCTURES:
        frames = re.compile(r"-A(0[2-9]|[1-9]\d)")  # of an animation, but its first
        paths = [path for path in images_under(folder / label) if not frames.search(path.stem)]
        for path in chance.sample(paths, min(90, len(paths))):
            image = trimmed(Image.open(path))
            if min(image.size) >= 16:
                yield to_square(image, 40, GRASS), label


def card_ranks(packages: Packages, chance: Random) -> Iterator[Item]:
    for deck, card, rank, _ in _cards(packages):
        if deck % 2 == 0:
            yield fit(card, 56), rank


def card_suits(packages: Packages, chance: Random) -> Iterator[Item]:
    for deck, card, _, suit in _cards(packages):
        if deck % 2 == 1:
            yield fit(card.convert("L").crop((0, 0, card.width, card.height // 2)), 48), suit


def _cards(packages: Packages) -> Iterator[tuple[int, Image.Image, str, str]]:
    """Number of the deck, card, rank and suit; a deck is one sheet of 13 columns and 5 rows."""
    decks = sorted((packages.unpacked("deb:gnome-cards-data") / "usr/share/aisleriot/cards").glob("*.svgz"))
    for number, deck in enumerate(decks):
        sheet = draw_svg(path=deck, width=13 * 80)
        if sheet is None:
            continue
        wide, high = sheet.width / 13, sheet.height / 5
        for row, suit in enumerate(SUITS):
            for column, rank in enumerate(RANKS):
                left, right = round(column * wide), round((column + 1) * wide)
                card = sheet.crop((left, round(row * high), right, round((row + 1) * high)))
                if spread(flat(card)) > 5:
                    yield number, flat(card, BAIZE), rank, suit


DATASETS = (
    Dataset(
        name="clipart-themes",
        make=clipart_themes,
        source="openclipart",
        kind="drawing",
        packages=("deb:openclipart-png",),
        native="100 to 1133 px, mostly 100",
        note="Clip art by many hands; the class is the theme it was filed under.",
        most_per_class=85,
        jpeg=88,
    ),
    Dataset(
        name="clipart-symbols",
        make=clipart_symbols,
        source="openclipart",
        kind="drawing",
        packages=("deb:openclipart-png",),
        native="100 to 1133 px, mostly 100",
        note="Signs, symbols, arrows, stars and patterns; the class is the folder.",
        most_per_class=70,
        jpeg=88,
    ),
    Dataset(
        name="wesnoth-units",
        make=wesnoth_units,
        source="wesnoth",
        kind="drawing",
        packages=("deb:wesnoth-1.16-data",),
        native="72x72",
        note="Sprites of units; the class is the people. Frames of animations are left out, so each picture is a unit "
        "(or its portrait pose).",
        most_per_class=70,
    ),
    Dataset(
        name="wesnoth-structures",
        make=wesnoth_structures,
        source="wesnoth",
        kind="drawing",
        packages=("deb:wesnoth-1.16-data",),
        native="16 to 1908 px, mostly 72",
        note="Tiles of what stands on the map; the class is the folder.",
        most_per_class=80,
    ),
    Dataset(
        name="card-ranks",
        make=card_ranks,
        source="gnome cards",
        kind="render",
        packages=("deb:gnome-cards-data",),
        native="vector",
        note="Playing cards of half of the decks; the class is the rank, whatever the suit.",
        most_per_class=70,
        jpeg=90,
    ),
    Dataset(
        name="card-suits",
        make=card_suits,
        source="gnome cards",
        kind="render",
        packages=("deb:gnome-cards-data",),
        native="vector",
        note="The upper half of playing cards of the other decks, in grey; the class is the suit (its row on the "
        "sheet: a few decks have German or Italian suits in that place).",
        most_per_class=150,
    ),
)
