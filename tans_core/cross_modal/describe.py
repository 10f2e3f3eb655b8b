"""What is kept of a dataset once seen."""

from __future__ import annotations

from functools import cache

from tans_core.cross_modal.features import extract_features, keeps_class_when_mirrored
from tans_core.records import DatasetRecord, ImageDataset
from tans_core.search_space.ofa_lite import Lite0Backbone, lite0_backbone


def describe(dataset: ImageDataset) -> DatasetRecord:
    """Counts, features of the frozen backbone, and whether the dataset may be mirrored."""
    backbone = _backbone()
    return DatasetRecord(
        fingerprint=dataset.fingerprint,
        spec=dataset.spec,
        name=dataset.name,
        source=dataset.source,
        licence=dataset.licence,
        class_names=dataset.class_names,
        counts=dataset.counts(),
        chance=dataset.chance,
        channels=dataset.images.shape[1],
        mirror=keeps_class_when_mirrored(dataset, backbone),
        features=extract_features(dataset, backbone),
        image_hashes=dataset.image_hashes,
    )


@cache
def _backbone() -> Lite0Backbone:
    """Loaded once a process: a third of a second."""
    return lite0_backbone()
