"""`tans build-zoo --dry-run`: what a build would cost, from a few timed steps; nothing is trained."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from pipeline.growing.plan import BuildPlan
from pipeline.running.threads import one_thread
from tans_core.acquisition.seconds import BACKWARD, SupernetSeconds
from tans_core.search_space.space import SearchSpace
from tans_core.training.loop import CPU, to_device
from tans_core.training.recipe import Recipe, SupernetRecipe

SAMPLES = 200  # random networks, for mean costs
TIMED_STEPS = 3
BYTES_A_PARAMETER = 2.1  # 16 bits for matrices, 32 for vectors and the statistics of batch norm
OWN_BYTES = 150_000  # of a pair that was cut out: statistics of batch norm, and a classifier
OVERHEAD = 1.2  # evaluation, batch norm, response, writing


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Pairs still to be trained, and what they would take on this machine's processor."""

    pairs: int
    workers: int
    pair_seconds: float
    wall_s: float
    storage_bytes: int


def estimate(plan: BuildPlan, workers: int) -> Estimate:
    """Time some training steps of one random network and scale by multiply-accumulates, images and epochs.

    Supernets that are not there yet are counted for all datasets of which there can be a pair.
    """
    recipe, size = Recipe(**plan.settings.recipe), plan.settings.image_size
    search_space = plan.search_space
    generator = torch.Generator().manual_seed(0)
    topology_CT = search_space.sample(SAMPLES, generator)
    params_C, flops_C = search_space.costs(topology_CT, size, 10)
    per_flop_s = _seconds_per_image(search_space, topology_CT[0].tolist(), size, recipe.batch_size) / flops_C[0].item()
    pairs = max(0, plan.rows_at_end - plan.rows_there)
    if plan.pair_mode == "from_supernet":
        return _from_supernets(plan, workers, pairs, per_flop_s / BACKWARD)
    images = [len(dataset.train[: recipe.max_train_images]) for dataset in plan.datasets]
    image_passes = recipe.epochs * sum(images) / len(images)
    pair_seconds = pairs * OVERHEAD * image_passes * flops_C.double().mean().item() * per_flop_s
    return Estimate(
        pairs=pairs,
        workers=workers,
        pair_seconds=pair_seconds,
        wall_s=pair_seconds / workers,
        storage_bytes=int(BYTES_A_PARAMETER * pairs * params_C.double().mean().item()),
    )


def _from_supernets(plan: BuildPlan, workers: int, pairs: int, forward_s: float) -> Estimate:
    """Of pairs that are cut out, their datasets' missing supernets among them."""
    counts = {dataset.fingerprint: dataset.counts() for dataset in plan.datasets}
    recipe = SupernetRecipe(**plan.settings.supernet_recipe)
    seconds = SupernetSeconds(counts, plan.search_space, plan.settings.image_size, recipe, forward_s)
    missing = [fingerprint for fingerprint in counts if fingerprint not in plan.with_supernet][:pairs]
    a_pair = sum(seconds.predicted("pair", fingerprint) for fingerprint in counts) / len(counts)
    pair_seconds = OVERHEAD * (pairs * a_pair + sum(seconds.predicted("supernet", each) for each in missing))
    largest = plan.search_space.costs(plan.search_space.layout.choices_TK[:, -1][None], plan.settings.image_size, 10)[0]
    return Estimate(
        pairs=pairs,
        workers=workers,
        pair_seconds=pair_seconds,
        wall_s=pair_seconds / workers,
        storage_bytes=int(BYTES_A_PARAMETER * len(missing) * largest.item()) + OWN_BYTES * pairs,
    )


def _seconds_per_image(search_space: SearchSpace, topology: list[int], size: int, batch: int) -> float:
    """Forward and backward on one thread, the first step left out."""
    with one_thread():
        network = to_device(search_space.random_subnet(search_space.architecture(topology), 10, torch.Generator()), CPU)
        images = torch.zeros(batch, 3, size, size).contiguous(memory_format=torch.channels_last)
        took_s = []
        for _ in range(1 + TIMED_STEPS):
            began = time.perf_counter()
            network(images).sum().backward()
            took_s.append(time.perf_counter() - began)
    return min(took_s[1:]) / batch
