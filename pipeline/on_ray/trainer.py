"""The actor that trains: it lives for the whole build and keeps datasets and supernet in memory."""

from __future__ import annotations

import time
from collections import OrderedDict

import ray
import torch

from pipeline.pools import perform
from tans_core.jobs import Described, DescribeJob, Job, Outcome
from tans_core.records import ImageDataset
from tans_core.search_space.space import SearchSpace
from tans_core.training.loop import keep_going

KEPT_BYTES = 4 << 30  # of decoded images; the longest unused dataset goes first


class Trainer:
    """Owns nothing: it is handed a job and returns an outcome."""

    def __init__(self, name: str, gpu_share: float) -> None:
        torch.set_num_threads(1)
        self._name = name
        self._search_space: SearchSpace | None = None
        self._device = torch.device("cuda" if gpu_share > 0 else "cpu")
        if gpu_share > 0:
            torch.cuda.set_per_process_memory_fraction(min(1.0, gpu_share))
        self._datasets: OrderedDict[str, ImageDataset] = OrderedDict()

    def ready(self) -> str:
        """Answers once the actor is up; gives the node it is on."""
        return ray.get_runtime_context().get_node_id()

    def perform(self, job: Job | DescribeJob, references: list[ray.ObjectRef]) -> Outcome | Described:
        """Do a job. Search space and dataset come through the object store when they are not here yet."""
        began = time.monotonic()
        supernet, dataset = references
        self._search_space = self._search_space or ray.get(supernet)
        images = self._dataset(job.fingerprint, dataset)
        return perform(job, images, self._search_space, self._name, began, keep_going, self._device)

    def _dataset(self, fingerprint: str, reference: ray.ObjectRef) -> ImageDataset:
        if fingerprint not in self._datasets:
            self._datasets[fingerprint] = ray.get(reference)
            while len(self._datasets) > 1 and sum(kept.images.nbytes for kept in self._datasets.values()) > KEPT_BYTES:
                self._datasets.popitem(last=False)
        self._datasets.move_to_end(fingerprint)
        return self._datasets[fingerprint]
