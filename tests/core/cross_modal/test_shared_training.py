"""Several workers train the space that one would: the same batches, all negatives, the same curve to rounding."""

import os
import subprocess
import sys
from pathlib import Path
from threading import Barrier, Event, Thread

import pytest
import torch
from torch import Tensor

from tans_core.cross_modal.meta_training import SpaceConfig, SpaceState, Worker, train
from tans_core.cross_modal.space_data import SpaceData, space_data
from tans_core.training.weights import decode_weights
from tests.worlds import World

ROOT = Path(__file__).parents[3]
WORLD = World(datasets=5, rows_each=2, sources=4)
CONFIG = SpaceConfig(dim=16, hidden=8, steps=30, evaluate_every=10, validation_draws=2)


@pytest.fixture(scope="module")
def data() -> SpaceData:
    torch.set_num_threads(1)
    return space_data(WORLD.snapshot())


@pytest.fixture(scope="module")
def alone(data: SpaceData) -> SpaceState:
    return train(data, CONFIG, 0)


def assert_alike(state: SpaceState, alone: SpaceState) -> None:
    assert state.curve.shape == (3, 5)
    assert (state.curve - alone.curve).abs().max() < 1e-4
    for name, tensor in alone.model.items():
        assert torch.allclose(state.model[name], tensor, atol=1e-4), name


@pytest.mark.parametrize("workers", [2, 7])
def test_n_workers_give_the_curve_of_one_also_where_datasets_are_fewer(data, alone, workers):
    """Threads that meet to add up; seven workers share five datasets, so that some have none."""
    handed, meet, built = [torch.empty(0)] * workers, Barrier(workers, timeout=300), [Event() for _ in range(workers)]
    states: list[SpaceState | None] = [None] * workers

    def work(rank: int) -> None:
        def total(tensor: Tensor) -> None:
            built[rank].set()
            handed[rank] = tensor.clone()
            meet.wait()
            tensor.copy_(torch.stack(handed).sum(dim=0))
            meet.wait()

        torch.set_num_threads(1)
        states[rank] = train(data, CONFIG, 0, worker=Worker(rank, workers, total))

    threads = [Thread(target=work, args=(rank,)) for rank in range(workers)]
    for thread, event in zip(threads, built):  # one after the other: weights are drawn from torch's one global state
        thread.start()
        assert event.wait(300)
    for thread in threads:
        thread.join()
    for state in states:
        assert state is not None
        assert_alike(state, alone)


PROCESS = """
import sys
from pathlib import Path
import torch
from tans_core.cross_modal.meta_training import Worker, train
from tans_core.training.weights import encode_weights
from tests.core.cross_modal.test_shared_training import CONFIG, WORLD, space_data
rank, folder = int(sys.argv[1]), Path(sys.argv[2])
torch.set_num_threads(1)
torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
state = train(space_data(WORLD.snapshot()), CONFIG, 0, worker=Worker(rank, 2, torch.distributed.all_reduce))
(folder / f"{rank}.safetensors").write_bytes(encode_weights(state.tensors()))
"""


def test_two_processes_over_gloo_give_the_curve_of_one(tmp_path, alone):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, str(rank), str(tmp_path)],
            cwd=ROOT,
            env={**os.environ, "GLOO_SOCKET_IFNAME": "lo"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    said = [process.communicate(timeout=500)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    for rank in range(2):
        assert_alike(SpaceState.of_tensors(decode_weights((tmp_path / f"{rank}.safetensors").read_bytes())), alone)
