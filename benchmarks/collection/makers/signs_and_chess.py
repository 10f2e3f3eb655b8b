"""Meta-test, where it is drawn: traffic signs and chessmen."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from random import Random

from PIL import Image

from benchmarks.collection.dataset import Dataset, Item
from benchmarks.collection.makers.letters import ink_of, open_font
from benchmarks.collection.packages import Packages
from benchmarks.collection.pictures import draw_svg, fit, images_under, trimmed

SIGNS = {  # by family; the first rule that fits
    "regulatory": (
        ("speed limit", r"speed-limit|minimum-speed|speed-zone"),
        ("end of a rule", r"^end-of"),
        ("parking rule", r"parking|stopping|standing"),
        ("prohibition", r"^no-|weight|height|width|length"),
        ("direction", r"^(go|turn|keep|pass|roundabout|left|right|u-turn|one-way|detour|both)"),
    ),
    "warning": (
        (
            "curve or road shape",
            r"curve|turn|winding|bend|narrow|lane|divided|ends|merge|hill|slope|descent|ascent|bump|uneven",
        ),
        (
            "crossing or junction",
            r"crossing|junction|intersection|crossroads|roundabout|railroad|traffic-signals|added",
        ),
        (
            "animals or people",
            r"animal|pedestrian|children|school|deer|cattle|horse|moose|kangaroo|playground|elderly|emu|camel|cow|elk|"
            r"bicycl|wild|domestic",
        ),
    ),
}
PIECES = {"k": "chess king", "q": "chess queen", "r": "rook", "b": "bishop", "n": "knight", "p": "pawn"}
SQUARES = ((235, 215, 180), (170, 120, 80), (120, 150, 90), (225, 230, 215), (140, 160, 190))
_NO_LETTER = chr(0xE123)  # of any font


def traffic_signs(packages: Packages, chance: Random) -> Iterator[Item]:
    for path in images_under(packages.unpacked("npm:mapillary_sprite_source"), "*.svg"):
        if path.parent.name != "package_signs" or ".tmp" in path.parts:  # the package brings them twice
            continue
        drawn = draw_svg(path=path, width=128)
        if drawn is None:
            continue
        drawn = fit(trimmed(drawn), chance.randint(30, 40))
        drawn = drawn.rotate(chance.uniform(-8, 8), Image.Resampling.BICUBIC, expand=True)
        street = chance.randint(70, 190), chance.randint(70, 190), chance.randint(70, 190)
        canvas = Image.new("RGB", (48, 48), street)
        left, top = ((48 - length) // 2 + chance.randint(-3, 3) for length in drawn.size)
        canvas.paste(drawn, (left, top), drawn)
        light = chance.uniform(0.55, 1.0)
        yield canvas.point([int(value * light) for value in range(256)] * 3), _sign(path.stem)


def _sign(stem: str) -> str:
    family, _, rest = stem.partition("--")
    if family in ("information", "complementary"):
        return family
    name = rest.split("--")[0]
    kinds = (kind for kind, rule in SIGNS.get(family, ()) if re.search(rule, name))
    return f"{family}: {next(kinds, 'other')}"


def chess_pieces(packages: Packages, chance: Random) -> Iterator[Item]:
    folder = packages.unpacked("deb:pychess") / "usr/share/pychess/pieces"
    for path in images_under(folder, "*.svg"):
        if re.fullmatch(r"[wb][kqrbnp]", path.stem):
            drawn = draw_svg(path=path, width=96)  # a few sets give their drawings no size
            if drawn is not None:
                yield _on_square(drawn, chance), PIECES[path.stem[1]]
    for path in images_under(folder / "ttf", "*.ttf"):
        for piece, figure in _figures(path):
            yield _on_square(figure, chance), PIECES[piece]


def _figures(path: Path) -> Iterator[tuple[str, Image.Image]]:
    """Black and white pieces of a chess font, which has them at letters or at the same places of a symbol font."""
    font = open_font(path)
    missing = ink_of(font, _NO_LETTER)  # what the font draws for a letter that it does not have
    for letter, piece in zip("kqrbnplwtvmo", "kqrbnpkqrbnp", strict=True):
        masks = (ink_of(font, text) for text in (letter, chr(0xF000 + ord(letter))))
        drawn = [
            mask for mask in masks if mask is not None and (missing is None or mask.tobytes() != missing.tobytes())
        ]
        if drawn:
            figure = Image.new("RGBA", drawn[0].size, (15, 15, 15, 0))
            figure.putalpha(drawn[0])
            yield piece, figure


def _on_square(piece: Image.Image, chance: Random) -> Image.Image:
    piece = fit(piece, chance.randint(30, 38)).rotate(chance.uniform(-6, 6), Image.Resampling.BICUBIC)
    canvas = Image.new("RGB", (40, 40), chance.choice(SQUARES))
    left, top = ((40 - length) // 2 + chance.randint(-2, 2) for length in piece.size)
    canvas.paste(piece, (left, top), piece)
    return canvas.convert("L")


DATASETS = (
    Dataset(
        name="traffic-signs",
        make=traffic_signs,
        folder="meta-test",
        source="mapillary signs",
        kind="render",
        packages=("npm:mapillary_sprite_source",),
        native="vector",
        note="Drawings of the world's traffic signs on a street-like grey, slightly turned and dimmed; the class is "
        "what a sign does. Designs of one sign in several countries resemble each other.",
        most_per_class=100,
        jpeg=88,
    ),
    Dataset(
        name="chess-pieces",
        make=chess_pieces,
        folder="meta-test",
        source="pychess",
        kind="render",
        packages=("deb:pychess",),
        native="vector",
        note="Chessmen of drawn sets and of chess fonts on a light or a dark square, grey; the class is the piece, "
        "whatever its colour.",
        most_per_class=90,
    ),
)
