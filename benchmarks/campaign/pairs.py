"""The pairs of the campaign, fixed beforehand: a random half of each dataset's networks is common to all datasets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from tans_core.acquisition.choose import CHOOSERS
from tans_core.records import Candidate, Choice, DatasetRecord, Observation
from tans_core.search_space.space import SearchSpace
from tans_core.training.loop import seeded


def networks(search_space: SearchSpace, purpose: str, count: int) -> list[tuple[int, ...]]:
    """That many different networks as OFA's sampler draws them; which ones follows from the purpose."""
    generator = seeded("campaign", purpose)
    found: dict[tuple[int, ...], None] = {}
    while len(found) < count:
        (drawn,) = search_space.sample(1, generator).tolist()
        found.setdefault(search_space.architecture(drawn).topology)
    return list(found)


def fixed_pairs(fingerprints: Sequence[str], search_space: SearchSpace, common: int, own: int) -> list[Candidate]:
    """Dataset by dataset `common` networks, the same for all, then `own` ones of the dataset's own.

    A network of a dataset's own may be a common one too, by a chance that no campaign will see; it is one pair then.
    """
    shared = networks(search_space, "common", common)
    pairs: dict[Candidate, None] = {}
    for fingerprint in fingerprints:
        for topology in (*shared, *networks(search_space, fingerprint, own)):
            pairs.setdefault(Candidate(fingerprint, topology))
    return list(pairs)


class FixedPairs:
    """A chooser of pairs that were fixed beforehand, in their order."""

    def __init__(self, pairs: Sequence[Candidate]) -> None:
        self.refit_seconds: list[float] = []
        self._pairs = tuple(pairs)
        self._used: set[Candidate] = set()

    def observe(self, observation: Observation) -> None:
        self._used.add(observation.candidate)

    def exclude(self, candidate: Candidate) -> None:
        self._used.add(candidate)

    def propose(
        self, decision: int, pending: Sequence[Candidate], seconds: Mapping[str, float] | None = None
    ) -> Choice | None:
        taken = self._used | set(pending)
        for pair in self._pairs:
            if pair not in taken and (seconds is None or pair.fingerprint in seconds):
                return Choice(pair, decision, "campaign", "fixed beforehand")
        return None

    def close(self) -> None:
        pass


@contextmanager
def registered(common: int, own: int) -> Iterator[str]:
    """The name by which a build asks for these pairs, while the context lasts."""

    def chooser(datasets: Sequence[DatasetRecord], _beside, search_space: SearchSpace, *_) -> FixedPairs:
        fingerprints = sorted(dataset.fingerprint for dataset in datasets)
        return FixedPairs(fixed_pairs(fingerprints, search_space, common, own))

    CHOOSERS["campaign"] = chooser
    try:
        yield "campaign"
    finally:
        del CHOOSERS["campaign"]
