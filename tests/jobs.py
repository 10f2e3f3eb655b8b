"""Jobs of smoke size, as the driver would make them."""

from __future__ import annotations

from dataclasses import asdict

import torch

from tans_core.jobs import Job
from tans_core.records import Attempt, Candidate, Choice, ImageDataset, PairIdentity
from tans_core.search_space.space import SearchSpace
from tans_core.training.recipe import Recipe


def pair_jobs(
    datasets: list[ImageDataset], search_space: SearchSpace, recipe: Recipe | None = None, deadline_s: float = 100
) -> list[Job]:
    """One job a dataset."""
    recipe = recipe or Recipe(epochs=1, mirror=False, batch_size=16)
    topologies = search_space.sample(len(datasets), torch.Generator().manual_seed(0)).tolist()
    jobs = []
    for number, (dataset, topology) in enumerate(zip(datasets, topologies)):
        identity = PairIdentity(
            fingerprint=dataset.fingerprint,
            search_space=search_space.name,
            topology=tuple(topology),
            width=search_space.width,
            image_size=dataset.image_size,
            mode="standalone",
            recipe=asdict(recipe),
            supernet=search_space.supernet_hash,
            seed=0,
        )
        choice = Choice(Candidate(dataset.fingerprint, tuple(topology)), number, "random", "a test's")
        jobs.append(
            Job(
                key=identity.key,
                name=f"{dataset.name} {identity.key[:6]}",
                identity=identity,
                attempt=Attempt("run", 1),
                choice=choice,
                deadline_s=deadline_s,
            )
        )
    return jobs
