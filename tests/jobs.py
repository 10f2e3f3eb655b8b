"""Jobs of smoke size, as the driver would make them."""

from __future__ import annotations

from dataclasses import asdict

import torch

from tans_core.jobs import Job, SupernetJob
from tans_core.lineage import SupernetIdentity
from tans_core.records import Attempt, Candidate, Choice, ImageDataset, PairIdentity
from tans_core.search_space.space import SearchSpace
from tans_core.training.recipe import Recipe, SupernetRecipe


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


def supernet_job_of(dataset: ImageDataset, search_space: SearchSpace, deadline_s: float = 500) -> SupernetJob:
    """The supernet of a dataset, of smoke size."""
    identity = SupernetIdentity(
        fingerprint=dataset.fingerprint,
        search_space=search_space.name,
        width=search_space.width,
        image_size=dataset.image_size,
        recipe=asdict(SupernetRecipe(epochs=1, mirror=False, batch_size=16)),
        supernet=search_space.supernet_hash,
        seed=0,
    )
    name = f"the supernet of {dataset.name}"
    return SupernetJob(key=identity.key, name=name, identity=identity, attempt=Attempt("run", 1), deadline_s=deadline_s)


def cut_job_of(supernet: SupernetJob, search_space: SearchSpace, number: int = 0) -> Job:
    """A pair that is cut out of it."""
    (topology,) = search_space.sample(1, torch.Generator().manual_seed(number)).tolist()
    given = {name: getattr(supernet.identity, name) for name in supernet.identity.__dataclass_fields__}
    identity = PairIdentity(topology=tuple(topology), mode="from_supernet", **given)
    return Job(
        key=identity.key,
        name=f"a pair {identity.key[:6]}",
        identity=identity,
        attempt=Attempt("run", 1),
        choice=Choice(Candidate(identity.fingerprint, identity.topology), number, "random", "a test's"),
        deadline_s=supernet.deadline_s,
    )
