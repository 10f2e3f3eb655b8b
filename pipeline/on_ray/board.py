"""Where workers say to the driver how they do, wherever either runs, and hear whether they are to end."""

from __future__ import annotations

from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipeline.running.waiting import Wait, machine_load
from tans_core.errors import PoolError

ANSWER_LIMIT_S = 60.0  # for the board to be up; grows with the load


class Board:
    """An actor that takes no CPU. It holds plain values alone, so that its process is up without torch."""

    def __init__(self) -> None:
        self._news: list[Any] = []
        self._over = False

    def tell(self, news: Any) -> bool:
        """Whether whoever tells is to end."""
        self._news.append(news)
        return self._over

    def end(self) -> None:
        self._over = True

    def read(self) -> list[Any]:
        """What was told since it was read, in its order."""
        news, self._news = self._news, []
        return news


class Reader:
    """The driver's side: a board on its own node, which lives as long as the driver."""

    def __init__(self) -> None:
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self.board = ray.remote(Board).options(num_cpus=0, scheduling_strategy=here).remote()
        asked = self.board.read.remote()
        wait = Wait("a process that hears the workers", ANSWER_LIMIT_S, _silent, machine_load)
        while not ray.wait([asked], timeout=0.5)[0]:
            wait.check()

    def news(self) -> list[Any]:
        """What workers told since they were last asked."""
        return ray.get(self.board.read.remote())

    def end(self) -> None:
        """Have the workers end."""
        self.board.end.remote()


def _silent() -> PoolError:
    return PoolError(
        "Ray started no process for what the workers tell, on this node: look for memory, and at the node's logs"
    )
