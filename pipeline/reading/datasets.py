"""`tans datasets`: what a SPEC gives, before anything is trained on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.reading.manifest import check_manifest, write_manifest
from pipeline.reading.read import read_datasets
from tans_core.errors import ConfigError, DatasetUnavailable
from tans_core.records import ReadingReport


@dataclass(frozen=True, kw_only=True)
class DatasetSummary:
    """One dataset as `tans datasets --json` prints it; counts are in the order of `class_names`."""

    name: str
    fingerprint: str
    spec: str
    source: str
    licence: str
    class_names: tuple[str, ...]
    counts: dict[str, list[int]]
    images: int
    image_size: int
    channels: int
    chance: float
    report: ReadingReport


def datasets(
    specs: Sequence[str],
    image_size: int = 64,
    *,
    pictures: Path | None = None,
    manifest: Path | None = None,
    unavailable: Callable[[DatasetUnavailable], None] | None = None,
) -> list[DatasetSummary]:
    """Read datasets as a build would, and say what they are.

    Args:
        pictures: a PNG to draw some pictures of each class on, as a network will see them; an older one is replaced.
        manifest: a CSV to write which picture is on which side into.
        unavailable: told of a dataset that a service does not give now; left out, it is raised.

    Raises:
        ConfigError: `image_size` is below 1; `pictures` cannot be written, or is another file than a sheet of ours.
        DatasetError: a SPEC cannot be read as a dataset of at least two classes, or a file cannot be written.
    """
    if image_size < 1:
        raise ConfigError(f"--image-size must be at least 1, got {image_size}")
    if manifest is not None:
        check_manifest(manifest)
    if pictures is not None:
        from pipeline.reading.contact_sheet import check_place  # and with it matplotlib, for its fonts

        check_place(pictures)
    read = read_datasets(specs, image_size, unavailable)
    if pictures is not None:
        from pipeline.reading.contact_sheet import draw_contact_sheet

        draw_contact_sheet(read, pictures)
    if manifest is not None:
        write_manifest(read, manifest)
    return [
        DatasetSummary(
            name=dataset.name,
            fingerprint=dataset.fingerprint,
            spec=dataset.spec,
            source=dataset.source,
            licence=dataset.licence,
            class_names=dataset.class_names,
            counts=dataset.counts(),
            images=len(dataset.images),
            image_size=dataset.image_size,
            channels=dataset.images.shape[1],
            chance=dataset.chance,
            report=dataset.report,
        )
        for dataset in read
    ]
