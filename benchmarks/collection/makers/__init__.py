"""All datasets of the collection: `meta-train` first, so that `meta-test` can be held against it."""

from benchmarks.collection.dataset import Dataset
from benchmarks.collection.makers import (
    drawings,
    emoji,
    icons,
    letters,
    meta_test,
    photographs,
    scans,
    signs_and_chess,
    sky,
    sounds,
    textures,
)

_ROOMS = (scans, photographs, sky, sounds, textures, icons, emoji, drawings, letters, meta_test, signs_and_chess)
_ALL = tuple(dataset for room in _ROOMS for dataset in room.DATASETS)
DATASETS: tuple[Dataset, ...] = tuple(sorted(_ALL, key=lambda dataset: dataset.folder == "meta-test"))
