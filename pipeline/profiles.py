"""What a zoo keeps of a dataset: looked at once, before anything is trained on it."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.progress import Progress
from pipeline.zoo import Zoo
from tans_core.cross_modal.features import extract_features, keeps_class_when_mirrored
from tans_core.records import DatasetRecord, ImageDataset
from tans_core.search_space.ofa_lite import lite0_backbone


def record_datasets(store: Zoo, datasets: Sequence[ImageDataset]) -> list[DatasetRecord]:
    """The zoo's records of these datasets, in their order; those it has not seen yet are added."""
    known = store.snapshot().datasets
    progress, backbone, records = Progress(), None, []
    for number, dataset in enumerate(datasets, start=1):
        if dataset.fingerprint not in known:
            backbone = backbone or lite0_backbone()
            progress.show(f"looking at {dataset.name} ({number} of {len(datasets)})")
            known = {**known, dataset.fingerprint: store.record_dataset(describe(dataset, backbone))}
        records.append(known[dataset.fingerprint])
    return records


def describe(dataset: ImageDataset, backbone) -> DatasetRecord:
    """The record of one dataset: its counts, features of the frozen backbone, whether it may be mirrored."""
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
    )
