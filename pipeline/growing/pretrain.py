"""`tans pretrain`: a supernet worth starting from, as a file that anyone can carry."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.config import checked_seed
from pipeline.growing.pretraining_part import PretrainingPart
from pipeline.reading.read import read_datasets
from pipeline.reading.starting_weights import starting_weights
from pipeline.running.output import percent
from pipeline.running.progress import Pace, Progress, say
from pipeline.running.signals import StopRequest, stop_on_signals
from pipeline.running.threads import torch_threads
from pipeline.tracking.names import checked_uri
from pipeline.tracking.tracker import MlflowTracker, NoTracker, Tracker
from tans_core.cross_modal.features import keeps_class_when_mirrored
from tans_core.errors import ConfigError
from tans_core.records import ImageDataset
from tans_core.search_space import make_search_space
from tans_core.search_space.elastic import ElasticSearchSpace
from tans_core.search_space.ofa_lite import lite0_backbone
from tans_core.search_space.supernet_file import SeenDataset, SupernetCard, encode_supernet, halved, state_hash
from tans_core.training.pool import Pool, pooled
from tans_core.training.pretrain import CURVE, PretrainConfig, Pretraining, PretrainState, Worker

KEEP_S = 60.0  # between checkpoints

_REHEARSED = 8  # steps, by whose speed `minutes` become steps


@dataclass(frozen=True, kw_only=True)
class PretrainSummary:
    """What `tans pretrain --json` prints. Accuracies are on the pool's validation images, each by the network's own
    head over the classes of the image's dataset."""

    out: str
    hash: str  # of the supernet, as zoos name it
    search_space: str
    begun_from: str
    datasets: int
    images: int  # learned from
    steps: int
    smallest: float
    random: float  # always the same network
    largest: float
    size_bytes: int
    wall_s: float  # of training, over all runs


def pretrain(
    datasets: Sequence[str],
    out: Path,
    *,
    search_space: str = "ofa-lite",
    width: float = 1.0,
    image_size: int = 64,
    steps: int | None = None,
    epochs: float | None = None,
    minutes: float | None = None,
    batch_size: int | None = None,
    init: str | Path | None = None,
    seed: int = 0,
    threads: int = 1,
    workers: int = 1,
    address: str | None = None,
    mlflow_uri: str | None = None,
    config: PretrainConfig = PretrainConfig(),  # noqa: B008 (frozen)
) -> PretrainSummary:
    """Pretrain a supernet on the training images of datasets; the same call goes on where it was stopped or killed.

    Args:
        datasets: SPECs, of at least two datasets.
        out: file of the supernet, `.safetensors`; its curve is written beside it as `.json`.
        image_size: side of the images.
        steps, epochs, minutes: how long; one of them at most, else the config's steps. Minutes become steps by the
            speed of the first few, so that they differ from machine to machine.
        batch_size: None: the config's.
        init: begin from these, see `build_zoo`; None: EfficientNet-Lite0's (ofa-lite) or random ones (ofa-mbv3).
        threads: of torch, where one worker trains; another number, another result.
        workers: of Ray Train, which share the steps; 1 trains in this process, without Ray.
        address: of a Ray cluster for several workers, whose nodes must see `out`'s folder; None: a local Ray.
        mlflow_uri: None: no MLflow.

    Raises:
        ConfigError: a number is out of its range, `out` cannot be written or is there already, or `init` cannot be had.
        DatasetError: a SPEC cannot be read.
        TrainingError: a loss is not finite.
        PoolError: the workers cannot be had.
        Stopped: by SIGTERM or Ctrl-C; the same call goes on.
    """
    out = Path(out).expanduser().absolute()
    config = _checked(out, config, batch_size, steps, epochs, minutes)
    checked_seed(seed)
    _check_workers(workers, threads, minutes, address)
    with stop_on_signals(goes_on=True) as stop, torch_threads(threads):
        space = make_search_space(search_space, width, starting_weights(init, search_space, width), seed)
        assert isinstance(space, ElasticSearchSpace)
        space.check_image_size(image_size)
        read = read_datasets(datasets, image_size)
        if epochs is not None:
            images = sum(len(dataset.train) for dataset in read)
            config = replace(config, steps=max(1, math.ceil(epochs * images / config.batch_size)))
        settings = {
            "search_space": search_space,
            "width": width,
            "begun_from": space.supernet_hash,
            "image_size": image_size,
            "datasets": [asdict(_seen(dataset)) for dataset in read],
            "config": asdict(config),
            "minutes": minutes,
            "seed": seed,
            "threads": threads,
            "workers": workers,
        }
        part = PretrainingPart(out, settings)
        if part.whole:
            say(f"{out} is of these settings already, nothing to do")
            return PretrainSummary(**json.loads(out.with_suffix(".json").read_bytes())["summary"])
        tracker = _tracker(mlflow_uri, part, settings)
        try:
            teacher = lite0_backbone()
            pool = pooled(read, [keeps_class_when_mirrored(dataset, teacher) for dataset in read])
            if workers == 1 or part.state is not None:
                training = _train(space, pool, teacher, config, seed, minutes, part, tracker, stop)
            else:
                training = _train_on_workers(space, pool, teacher, config, seed, workers, address, part, tracker)
            summary = _write(out, space, training, part)
            tracker.finish("FINISHED")
            return summary
        except BaseException:
            tracker.finish("KILLED" if stop else "FAILED")
            raise


def _checked(
    out: Path,
    config: PretrainConfig,
    batch_size: int | None,
    steps: int | None,
    epochs: float | None,
    minutes: float | None,
) -> PretrainConfig:
    if out.suffix != ".safetensors":
        raise ConfigError(f"--out {out} must end in .safetensors, by which others know what it is")
    if sum(amount is not None for amount in (steps, epochs, minutes)) > 1:
        raise ConfigError("give one of --steps, --epochs and --minutes")
    for name, amount in (("epochs", epochs), ("minutes", minutes)):
        if amount is not None and not 0 < amount < math.inf:
            raise ConfigError(f"--{name} must be above 0, got {amount:g}")
    return replace(
        config,
        batch_size=config.batch_size if batch_size is None else batch_size,
        steps=config.steps if steps is None else steps,
    )


def _check_workers(workers: int, threads: int, minutes: float | None, address: str | None) -> None:
    if workers == 1:
        return
    if threads != 1:
        raise ConfigError(f"--threads {threads} goes with --workers 1 alone: several workers have one thread each")
    if minutes is not None:
        raise ConfigError("--minutes goes with --workers 1 alone: give --steps or --epochs")
    from pipeline.on_ray.pool import check_wish

    check_wish(workers, address)


def _seen(dataset: ImageDataset) -> SeenDataset:
    return SeenDataset(
        name=dataset.name, fingerprint=dataset.fingerprint, images=len(dataset.train), licence=dataset.licence
    )


def _train(
    space: ElasticSearchSpace,
    pool: Pool,
    teacher: nn.Module,
    config: PretrainConfig,
    seed: int,
    minutes: float | None,
    part: PretrainingPart,
    tracker: Tracker,
    stop: StopRequest,
) -> Pretraining:
    """Train to the end, or leave as a signal asks with everything kept."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def made(config: PretrainConfig) -> Pretraining:
        return Pretraining(space, pool, teacher, config, seed, device=device)

    if part.state is not None:
        config = replace(config, steps=part.steps)
    elif minutes is not None:
        config = replace(config, steps=_steps_in(minutes, made(config)))
    training, progress, spent_s = made(config), Progress(), part.seconds
    if part.state is not None:
        training.load(part.state)
        say(f"going on at step {training.step} of {training.steps}")
    pace, began_s, kept_s = Pace(training.step), time.monotonic(), time.monotonic()
    with stop.patiently():
        while training.step < training.steps:
            training.train_step()
            seconds = spent_s + time.monotonic() - began_s
            last = training.step == training.steps
            if training.step % config.evaluate_every == 0 or last:
                training.evaluate(seconds)
                _log(tracker, training.state().curve[-1:])
            if stop or last or time.monotonic() - kept_s > KEEP_S:
                part.keep(training.state(), training.steps, seconds)
                kept_s = time.monotonic()
            stop.raise_if_asked()
            progress.show(_words(training, pace), last)
    return training


def _train_on_workers(
    space: ElasticSearchSpace,
    pool: Pool,
    teacher: nn.Module,
    config: PretrainConfig,
    seed: int,
    workers: int,
    address: str | None,
    part: PretrainingPart,
    tracker: Tracker,
) -> Pretraining:
    """The same under Ray Train, which keeps what is to be gone on from; as it was at its end."""
    from pipeline.on_ray.pool import fitting_workers
    from pipeline.on_ray.session import ray_session
    from pipeline.on_ray.shared_tasks import PretrainTask
    from pipeline.on_ray.train import train_on_workers

    progress, steps, folder = Progress(), math.ceil(config.steps / workers), part.ray_folder
    pace = Pace(0)
    with ray_session(address, cpus=workers) as session:
        if address is not None:
            fitting_workers(workers, 0.0, True, session.cpus, 0.0)
        say(f"starting {workers} workers of Ray Train")
        tensors = train_on_workers(
            PretrainTask(space, pool, config, seed),
            folder.parent,
            workers,
            folder.name,
            "put --out on a disk that they share",
            watch=lambda step, curve: progress.show(f"step {step} of {steps}: {pace.words(step, steps)}"),
        )
    training = Pretraining(space, pool, teacher, config, seed, Worker(0, workers))
    training.load(PretrainState.of_tensors(tensors))
    _log(tracker, training.curve)
    part.keep(training.state(), training.steps, training.curve[-1, CURVE.index("seconds")].item())
    return training


def _steps_in(minutes: float, rehearsal: Pretraining) -> int:
    """How many steps that long will be."""
    rehearsal.train_step()  # memory is asked for once
    began = time.monotonic()
    for _ in range(_REHEARSED):
        rehearsal.train_step()
    return max(1, round(60 * minutes * _REHEARSED / (time.monotonic() - began)))


def _words(training: Pretraining, pace: Pace) -> str:
    curve = training.curve
    so_far = (
        ""
        if not len(curve)
        else ", validation "
        + ", ".join(f"{name} {percent(value)}" for name, value in zip(CURVE[3:], curve[-1].tolist()[3:]))
    )
    return f"step {training.step} of {training.steps}{so_far}: {pace.words(training.step, training.steps)}"


def _write(out: Path, space: ElasticSearchSpace, training: Pretraining, part: PretrainingPart) -> PretrainSummary:
    """The curve first, the supernet last: who has it has all."""
    weights = halved(training.supernet())
    settings = part.settings
    card = SupernetCard(
        search_space=space.name,
        width=space.width,
        hash=state_hash(weights),
        begun_from=space.supernet_hash,
        datasets=tuple(SeenDataset(**each) for each in settings["datasets"]),
        image_size=settings["image_size"],
        steps=training.steps * settings["workers"],
        seed=settings["seed"],
        config=settings["config"],
        versions={name: version(name) for name in ("tans", "torch", "ofa")},
    )
    data = encode_supernet(weights, card)
    last = dict(zip(CURVE, training.curve[-1].tolist()))
    summary = PretrainSummary(
        out=str(out),
        hash=card.hash,
        search_space=space.name,
        begun_from=card.begun_from,
        datasets=len(card.datasets),
        images=sum(each.images for each in card.datasets),
        steps=card.steps,
        smallest=last["smallest"],
        random=last["random"],
        largest=last["largest"],
        size_bytes=len(data),
        wall_s=last["seconds"],
    )
    curve = [
        {"minutes": seconds / 60, **dict(zip(CURVE, (step, seconds, *rest)))}
        for step, seconds, *rest in training.curve.tolist()
    ]
    said = {"summary": asdict(summary), "settings": settings, "card": asdict(card), "curve": curve}
    part.finish(data, json.dumps(said, indent=1).encode() + b"\n")
    return summary


def _tracker(uri: str | None, part: PretrainingPart, settings: dict[str, Any]) -> Tracker:
    """A run for this pretraining, started; one that was stopped goes on in its run."""
    if uri is None:
        return NoTracker()
    tracker = MlflowTracker(checked_uri(uri), "tans", part.note_run)
    params = {name: value for name, value in settings.items() if name not in ("config", "datasets")}
    tracker.start(f"pretrain {part.out.stem}", {**params, **settings["config"]}, run_id=part.run_id)
    return tracker


def _log(tracker: Tracker, curve: Tensor) -> None:
    for step, seconds, loss, *accuracies in curve.tolist():
        named = {f"validation/{name}": value for name, value in zip(CURVE[3:], accuracies)}
        tracker.log({"loss": loss, "minutes": seconds / 60, **named}, int(step))
