"""Letters of many scripts in many fonts, and which typeface a word is set in."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from benchmarks.collection.dataset import Dataset, Item
from benchmarks.collection.packages import Packages
from benchmarks.collection.pictures import grey, images_under

LATIN = (
    "dejavu-core liberation freefont-ttf comfortaa lobster play jura oldstandard sil-gentium sil-andika sil-charis "
    "hack firacode inconsolata vollkorn ebgaramond junicode humor-sans isabella breip ecolier-court dancingscript "
    "kaushanscript yanone-kaffeesatz lato cabin quattrocento roboto-unhinted open-sans cantarell linuxlibertine "
    "paratype fantasque-sans jetbrains-mono"
)
GREEK = (
    "dejavu-core freefont-ttf liberation linuxlibertine gfs-artemisia gfs-baskerville gfs-bodoni-classic "
    "gfs-complutum gfs-didot gfs-didot-classic gfs-gazis gfs-neohellenic gfs-olga gfs-porson gfs-solomos "
    "gfs-theokritos oldstandard open-sans roboto-unhinted firacode vollkorn comfortaa play jura ebgaramond "
    "sil-gentium hack"
)
CYRILLIC = (
    "dejavu-core freefont-ttf liberation linuxlibertine paratype oldstandard open-sans roboto-unhinted firacode "
    "vollkorn comfortaa play jura ebgaramond sil-gentium sil-andika sil-charis hack lobster cantarell jetbrains-mono "
    "humor-sans"
)
THAI = (
    "tlwg-garuda-ttf tlwg-kinnari-ttf tlwg-laksaman-ttf tlwg-loma-ttf tlwg-mono-ttf tlwg-norasi-ttf tlwg-purisa-ttf "
    "tlwg-sawasdee-ttf tlwg-typewriter-ttf tlwg-typist-ttf tlwg-typo-ttf tlwg-umpush-ttf tlwg-waree-ttf"
)
GEORGIAN = "bpg-georgian dejavu-core freefont-ttf"
ARABIC = "arabeyes kacst kacst-one hosny-amiri sil-scheherazade sil-lateef farsiweb dejavu-core freefont-ttf"
HANGUL = "nanum nanum-extra unfonts-core unfonts-extra baekmuk"
JAPANESE = (
    "ipafont-gothic ipafont-mincho ipaexfont-gothic ipaexfont-mincho vlgothic mplus sawarabi-gothic sawarabi-mincho "
    "hanazono kouzan-mouhitsu aoyagi-kouzan-t aoyagi-soseki komatuna konatu motoya-l-cedar motoya-l-maruberi umeplus "
    "migmix"
)
TYPEFACES = (
    "dejavu-core liberation comfortaa lobster play oldstandard sil-gentium hack inconsolata vollkorn junicode "
    "humor-sans isabella breip dancingscript kaushanscript yanone-kaffeesatz lato quattrocento roboto-unhinted"
)


def letters(alphabet: str, fonts: str, faces: int, packages: Packages, chance: Random) -> Iterator[Item]:
    """One picture of each letter in each face that has it; at most so many faces of a font package."""
    for face in _faces(packages, fonts, faces):
        for number, letter in enumerate(alphabet, start=1):
            mask = face.draw(letter)
            if mask is not None:
                yield _written(mask, 32, chance), f"{number:02d} {letter}"


def typefaces(packages: Packages, chance: Random) -> Iterator[Item]:
    for name in TYPEFACES.split():
        (face,) = _faces(packages, name, 1)
        for _ in range(60):
            mask = face.draw("".join(chance.sample("abcdefghknopqrstuvwxyz", 2)))
            if mask is not None:
                yield _written(mask, 40, chance), name


def ink_of(font: ImageFont.FreeTypeFont, text: str) -> Image.Image | None:
    """The text's ink as a mask, cut to it; None for next to none, or for more than a letter or two would have."""
    left, top, right, bottom = font.getbbox(text)
    if right - left < 4 or bottom - top < 4 or right - left > 600:
        return None
    mask = Image.new("L", (round(right - left) + 8, round(bottom - top) + 8), 0)
    ImageDraw.Draw(mask).text((4 - left, 4 - top), text, font=font, fill=255)
    box = mask.getbbox()
    return mask.crop(box) if box else None


def open_font(path: Path) -> ImageFont.FreeTypeFont:
    """A font at 72 px, laid out letter by letter: the other layout depends on libraries of the machine."""
    return ImageFont.truetype(str(path), 72, layout_engine=ImageFont.Layout.BASIC)


class _Face:
    def __init__(self, path: Path) -> None:
        from fontTools.ttLib import TTFont

        with TTFont(path, fontNumber=0, lazy=True) as opened:
            self._has = set(opened.getBestCmap() or {})
        self._font = open_font(path)

    def draw(self, text: str) -> Image.Image | None:
        """Ink as a mask cut to the text; None where the font lacks a letter or has no ink for it."""
        if any(ord(letter) not in self._has for letter in text):
            return None
        return ink_of(self._font, text)


def _faces(packages: Packages, fonts: str, most: int) -> list[_Face]:
    """At most so many faces of every font package, upright ones with the plainest (shortest) names first."""
    found = []
    for package in _packages(fonts):
        folder = packages.unpacked(package) / "usr/share/fonts"
        paths = [path for path in images_under(folder, "*.ttf", "*.otf", "*.TTF", "*.ttc") if not path.is_symlink()]
        of_package: list[_Face] = []
        for path in sorted(paths, key=_plainness):
            try:
                of_package.append(_Face(path))
            except Exception as error:  # fonts fail in many ways, and one that cannot be read must not end the build
                print(f"  {path.name} is passed over: {error}", file=sys.stderr)
            if len(of_package) == most:
                break
        found += of_package
    return found


def _plainness(path: Path) -> tuple[bool, int, str]:
    return bool(re.search(r"ital|obli|bold|black|heavy", path.stem.lower())), len(path.stem), path.stem


def _written(mask: Image.Image, side: int, chance: Random) -> Image.Image:
    """The letter on paper: turned, slanted, moved, in some grey on some other grey, a little blurred and grainy."""
    slant, turn = chance.uniform(-0.2, 0.2), chance.uniform(-12, 12)
    scale = chance.uniform(0.6, 0.9) * side / max(mask.size)
    size = max(3, round(mask.width * scale)), max(3, round(mask.height * scale))
    mask = mask.resize(size, Image.Resampling.LANCZOS)
    left, top = ((side - length) / 2 + chance.uniform(-2.5, 2.5) for length in mask.size)
    canvas = Image.new("L", (side, side), 0)
    canvas.paste(mask, (round(left), round(top)))
    canvas = canvas.rotate(turn, Image.Resampling.BICUBIC)
    slanted = (1, slant, -slant * side / 2, 0, 1, 0)
    canvas = canvas.transform(canvas.size, Image.Transform.AFFINE, slanted, Image.Resampling.BICUBIC)
    canvas = canvas.filter(ImageFilter.GaussianBlur(chance.uniform(0, 0.7)))
    ground, ink = chance.uniform(170, 255), chance.uniform(0, 90)
    if chance.random() < 0.25:
        ground, ink = ink, ground
    cover = np.asarray(canvas, dtype=float) / 255
    grain = np.random.default_rng(chance.getrandbits(32)).normal(0, chance.uniform(0, 10), cover.shape)
    return grey(ground + (ink - ground) * cover + grain)


def _packages(fonts: str) -> tuple[str, ...]:
    return tuple(f"deb:fonts-{name}" for name in fonts.split())


def _script(
    name: str, alphabet: str, fonts: str, faces: int, folder: str = "meta-train", source: str = "fonts"
) -> Dataset:
    return Dataset(
        name=name,
        make=partial(letters, alphabet, fonts, faces),
        folder=folder,
        source=source,
        kind="render",
        packages=_packages(fonts),
        native="vector",
        note="Letters over many fonts, turned, slanted, moved, in greys, a little blurred and grainy; 1 picture(s) "
        "of a letter and font face. Twenty letters of the script.",
        most_per_class=70,
    )


DATASETS = (
    _script("latin-capitals", "ABCDEFGHIJKLMNOPQRST", LATIN, 2),
    _script("greek-letters", "αβγδεζηθικλμνξπρστφω", GREEK, 2),
    _script("cyrillic-letters", "бвгджзийклмптцчшщыэю", CYRILLIC, 3),
    _script("thai-letters", "กขคงจฉชซญดตถทธนบปผพม", THAI, 4),
    _script("georgian-letters", "აბგდევზთიკლმნოპჟრსტუ", GEORGIAN, 27),
    _script("arabic-letters", "ابتثجحخدرسصضطظعغفقكم", ARABIC, 24),
    _script("hangul-syllables", "가나다라마바사아자차카타파하고노도로모보", HANGUL, 12),
    Dataset(
        name="typefaces",
        make=typefaces,
        source="fonts",
        kind="render",
        packages=_packages(LATIN),
        native="vector",
        note="Which typeface two random small letters are set in; twenty families.",
        most_per_class=60,
    ),
    _script("hiragana-letters", "あいうえおかきくけこさしすせそたちつてと", JAPANESE, 4, "meta-test", "japanese fonts"),
)
