"""Sets of drawings as Iconify publishes them: one npm package each, vectors by name in one JSON file."""

from __future__ import annotations

import json
from typing import Any

from PIL import Image

from benchmarks.collection.packages import Packages
from benchmarks.collection.pictures import draw_svg

_SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="{wide}" height="{high}" '
    'viewBox="{left} {top} {wide} {high}">{body}</svg>'
)


def package_of(name: str) -> str:
    """A set's package, as pins.json names it."""
    return f"npm:@iconify-json/{name}"


class IconSet:
    """One set: its names, the Unicode codes that some have, and its drawings."""

    def __init__(self, packages: Packages, name: str) -> None:
        folder = packages.unpacked(package_of(name)) / "package"
        data = json.loads((folder / "icons.json").read_text())
        self.name = name
        self.icons: dict[str, dict[str, Any]] = data["icons"]
        chars = folder / "chars.json"
        self.chars: dict[str, str] = json.loads(chars.read_text()) if chars.exists() else {}  # code -> name
        self._aliases: dict[str, dict[str, Any]] = data.get("aliases", {})
        self._size = data.get("width", 16), data.get("height", 16)

    def draw(self, name: str, width: int) -> Image.Image | None:
        """A drawing, RGBA; None where the set has none of this name, or one that cannot be drawn."""
        icon = self.icons.get(name) or self.icons.get(self._aliases.get(name, {}).get("parent", ""))
        if icon is None:
            return None
        wide, high = icon.get("width", self._size[0]), icon.get("height", self._size[1])
        left, top = icon.get("left", 0), icon.get("top", 0)
        return draw_svg(_SVG.format(wide=wide, high=high, left=left, top=top, body=icon["body"]), width=width)
