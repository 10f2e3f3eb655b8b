"""Workers that make up what a training gives: a build of hundreds of pairs is a matter of seconds."""

from __future__ import annotations

import torch

from pipeline.pools import InlinePool
from tans_core.jobs import AnyOutcome, DescribeJob, Job, Outcome, SupernetOutcome
from tans_core.lineage import TrainedSupernet
from tans_core.records import Costs, CurvePoint, Seconds, TrainedPair, Worker
from tans_core.training.weights import encode_weights

TOTAL = 100  # images on each side
VALIDATION = {False: 85, True: 95}  # right answers, of small and of large networks
TEST = {False: 30, True: 10}
PAIR_S, SUPERNET_S = 0.01, 1.0
WORKER = Worker("made-up", "here", "cpu")


class MadeUpPool(InlinePool):
    """Validation and test contradict each other: large networks are better on validation and worse on test."""

    def next_outcome(self, timeout_s: float) -> AnyOutcome | None:
        if not self._waiting or isinstance(self._waiting[0], DescribeJob):
            return super().next_outcome(timeout_s)
        job = self._waiting.popleft()
        if not isinstance(job, Job):
            made = TrainedSupernet(weights=encode_weights({"w": torch.ones(9)}), curve=(CurvePoint(1, 1.0),))
            return SupernetOutcome(job=job, worker=WORKER, seconds=Seconds(train=SUPERNET_S), trained=made)
        topology = job.identity.topology
        large = sum(topology) > 4 * len(topology)
        trained = TrainedPair(
            costs=Costs(params=1_000 * sum(topology), flops=10_000 * sum(topology)),
            val_correct_by_class=(VALIDATION[large],),
            val_total_by_class=(TOTAL,),
            test_correct_by_class=(TEST[large],),
            test_total_by_class=(TOTAL,),
            response=torch.zeros(8, 4, dtype=torch.float16),
            curve=(CurvePoint(1, 1.0),),
            weights=encode_weights({"w": torch.tensor(topology, dtype=torch.float32)}),
        )
        return Outcome(job=job, worker=WORKER, seconds=Seconds(train=PAIR_S), trained=trained)
