"""The actor that trains: it lives for the whole build and keeps datasets and supernet in memory."""

from __future__ import annotations

import time
from collections import OrderedDict

import ray
import torch

from pipeline.pools import device_kind, perform
from tans_core.jobs import AnyJob, AnyOutcome
from tans_core.records import ImageDataset, Worker
from tans_core.search_space.space import SearchSpace
from tans_core.training.loop import keep_going

KEPT_BYTES = 4 << 30  # of decoded images; the longest unused dataset goes first


class Trainer:
    """Owns nothing: it is handed a job and returns an outcome."""

    def __init__(self, name: str, gpu_share: float) -> None:
        torch.set_num_threads(1)
        self._search_space: SearchSpace | None = None
        self._device = torch.device("cuda" if gpu_share > 0 else "cpu")
        if gpu_share > 0:
            torch.cuda.set_per_process_memory_fraction(min(1.0, gpu_share))
        self._datasets: OrderedDict[str, ImageDataset] = OrderedDict()
        self._worker = Worker(name, ray.get_runtime_context().get_node_id(), device_kind(self._device))

    def ready(self) -> Worker:
        """Answers once the actor is up; says where."""
        return self._worker

    def perform(self, job: AnyJob, references: list[ray.ObjectRef]) -> AnyOutcome:
        """Do a job. Search space and dataset come through the object store when they are not here yet.

        Args:
            references: of the search space, the dataset, and the dataset's supernet where the pair is cut out of it.
        """
        began = time.monotonic()
        search_space, dataset, *supernets = references
        self._search_space = self._search_space or ray.get(search_space)
        images = self._dataset(job.fingerprint, dataset)
        supernet = ray.get(supernets[0]) if supernets else None
        return perform(job, images, self._search_space, self._worker, began, keep_going, self._device, supernet)

    def _dataset(self, fingerprint: str, reference: ray.ObjectRef) -> ImageDataset:
        if fingerprint not in self._datasets:
            self._datasets[fingerprint] = ray.get(reference)
            while len(self._datasets) > 1 and sum(kept.images.nbytes for kept in self._datasets.values()) > KEPT_BYTES:
                self._datasets.popitem(last=False)
        self._datasets.move_to_end(fingerprint)
        return self._datasets[fingerprint]
