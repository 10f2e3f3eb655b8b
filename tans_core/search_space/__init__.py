"""Search spaces: one promise (space.py), one keeper a file. A new space is a file and a line in `KEEPERS`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tans_core.errors import ConfigError
from tans_core.search_space.space import SearchSpace

Init = Path | str | None

WORDS = {  # what `init` may say instead of a file; the first is the start of a new zoo
    "ofa-lite": ("starter", "lite0", "imagenet", "random"),
    "ofa-mbv3": ("random",),
}


def _ofa_lite(width: float, init: Init, seed: int) -> SearchSpace:
    from tans_core.search_space.ofa_lite import OfaLite  # imports torchvision: seconds

    if width != 1.0:
        raise ConfigError(f"ofa-lite comes in width 1.0 alone, got {width}: leave it out, or take ofa-mbv3")
    return OfaLite(init, seed)


def _ofa_mbv3(width: float, init: Init, seed: int) -> SearchSpace:
    from tans_core.search_space.ofa_mbv3 import OfaMobileNetV3  # imports torchvision: seconds

    return OfaMobileNetV3(width, init, seed)


KEEPERS: dict[str, Callable[[float, Init, int], SearchSpace]] = {"ofa-lite": _ofa_lite, "ofa-mbv3": _ofa_mbv3}


def make_search_space(name: str, width: float = 1.0, init: Init = None, seed: int = 0) -> SearchSpace:
    """The search space of that name over its starting weights; the same arguments give the same `supernet_hash`.

    Args:
        name: "ofa-lite" or "ofa-mbv3".
        width: 1.0; ofa-mbv3 has 1.2 too.
        init: one of the space's `WORDS`, or a file: a supernet that tans pretrained, a state dict of one (ofa-lite), an
            OFA checkpoint (ofa-mbv3). None for what needs no file: EfficientNet-Lite0's weights (ofa-lite) or random
            ones (ofa-mbv3).
        seed: of random starting weights.

    Raises:
        ConfigError: no such space, or not in that width, or `init` is no file with such weights.
    """
    if name not in KEEPERS:
        raise ConfigError(f"there is no search space {name!r}: choose one of {', '.join(KEEPERS)}")
    if isinstance(init, str) and init not in WORDS[name]:
        if any(init in words for words in WORDS.values()):
            raise ConfigError(f"{name} has no starting weights {init!r}: choose {' or '.join(WORDS[name])}, or a file")
        if not Path(init).exists() and Path(init).name == init and not Path(init).suffix:
            raise ConfigError(f"no starting weights and no file {init!r}: choose {', '.join(WORDS[name])}, or a file")
    return KEEPERS[name](width, init, seed)
