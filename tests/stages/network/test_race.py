"""Who is left at each turn of a race, worked by hand: attempts on a bench that answer as they are told, and last."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from pipeline.network.contestants import Attempt, Contestant, Tried
from pipeline.network.race import Race
from tans_core.errors import TrainingError
from tans_core.training.budget import Timing
from tans_core.training.fine_tune import Learned, OutOfTime
from tans_core.training.loop import keep_going
from tans_core.training.recipe import Recipe

Right = Callable[[int, int], str]  # size, epochs -> which of its validation images it has right


class Bench:
    """An epoch takes 10 s at 64 px; a closed form one second."""

    def __init__(self, right: dict[str, Right]) -> None:
        self.now, self._right = 0.0, right

    def clock(self) -> float:
        return self.now

    def attempt(self, contestant: Contestant, image_size: int, epochs: int, check=keep_going) -> Any:
        began, ended = self.now, 0
        for ended in range(1, epochs + 1):
            self.now += 10 * (image_size / 64) ** 2
            try:
                check()
            except OutOfTime:
                if ended == 1:
                    raise
                break
        self.now += 1
        letters = self._right[contestant.name](image_size, ended)
        right_N = torch.tensor([letter == "1" for letter in letters])
        return Attempt(
            contestant=contestant,
            network=torch.nn.Identity(),
            dataset=None,  # type: ignore[arg-type]
            recipe=contestant.recipe,
            learned=Learned(best_epoch=ended, val_correct=int(right_N.sum()), curve=()),
            right_N=right_N,
            tried=Tried(
                name=contestant.name,
                image_size=image_size,
                epochs=epochs,
                ended=ended,
                best_epoch=ended,
                val_accuracy=right_N.double().mean().item(),
                wall_s=self.now - began,
            ),
        )


def _contestant(name: str) -> Contestant:
    return Contestant(
        name=name,
        key=name,
        start="start",
        search_space=None,  # type: ignore[arg-type]
        topology=(),
        recipe=Recipe(),
        from_dataset=None,
        load_weights=dict,
        sizes=(64,),
    )


@pytest.fixture(autouse=True)
def _timed_by_hand(monkeypatch):
    """What some steps would say: an epoch takes 10 s at 64 px."""
    made = Timing(image_size=64, epoch_s=10.0, test_s=0.0)
    monkeypatch.setattr("pipeline.network.race.timing", lambda *_: made)


def _raced(seconds: float, **right: Right) -> Race:
    bench: Any = Bench(right)
    race = Race(bench, seconds)
    race.run([_contestant(name) for name in right])
    assert bench.now <= seconds + 11  # the last epoch and its closed form
    return race


def _epochs(race: Race) -> dict[str, list[int]]:
    epochs: dict[str, list[int]] = {}
    for each in race.tried:
        epochs.setdefault(each.name, []).append(each.epochs)
    return epochs


def ones(count: int, of: int = 40) -> str:
    return "1" * count + "0" * (of - count)


def test_who_is_worse_beyond_the_noise_leaves_and_the_best_gets_the_time_that_is_left():
    """Five epochs of three are 150 s, within 85 % of half of 700. `low` is 30 behind, `near` 2: luck."""
    race = _raced(
        700,
        low=lambda size, epochs: ones(5),
        near=lambda size, epochs: ones(33),
        top=lambda size, epochs: ones(35),
    )
    # 544 s are left, and 231 are 85 % of a half: ten epochs of two. Of the 342 s then left, 85 % are 29 epochs of one.
    assert _epochs(race) == {"low": [0, 5], "near": [0, 5, 10], "top": [0, 5, 10, 29]}
    assert race.best is not None and race.best.contestant.name == "top"


def test_a_closed_form_does_not_throw_out_who_learns_more():
    """Before training `late` is far behind; after five epochs it is the best."""
    race = _raced(
        400,
        early=lambda size, epochs: ones(20),
        late=lambda size, epochs: ones(35 if epochs else 2),
    )
    assert _epochs(race)["late"][:2] == [0, 5] and _epochs(race)["early"] == [0, 5]
    assert race.best is not None and race.best.contestant.name == "late"


def test_where_the_time_is_short_those_that_know_most_are_trained():
    """Half of 129 s at 85 % is one training of five epochs: no turn, and the best so far gets all."""
    race = _raced(
        130, one=lambda size, epochs: ones(10), two=lambda size, epochs: ones(12), three=lambda size, epochs: ones(11)
    )
    assert _epochs(race) == {"one": [0], "two": [0, 10], "three": [0]}


def test_with_no_time_left_each_that_answered_counts_and_one_always_does():
    race = _raced(0.5, one=lambda size, epochs: ones(10), two=lambda size, epochs: ones(12))
    assert _epochs(race) == {"one": [0]}


def test_the_best_of_all_attempts_is_kept_of_equals_the_latest():
    race = _raced(300, only=lambda size, epochs: ones(30 if epochs == 0 else 20))
    assert race.best is not None and race.best.tried.epochs == 0
    race = _raced(300, only=lambda size, epochs: ones(30))
    assert race.best is not None and race.best.tried.epochs > 0


def test_a_contestant_alone_has_no_turns():
    race = _raced(600, only=lambda size, epochs: ones(30))
    assert _epochs(race) == {"only": [0, 30]}  # the most epochs that a plan has


def test_who_fails_leaves_and_the_others_go_on():
    def failing(size: int, epochs: int) -> str:
        if epochs:
            raise TrainingError("the loss of epoch 1 is nan")
        return ones(39)

    race = _raced(400, failing=failing, other=lambda size, epochs: ones(30))
    assert _epochs(race)["failing"] == [0] and _epochs(race)["other"][-1] > 5
    assert race.best is not None and race.best.contestant.name == "failing" and race.best.tried.epochs == 0

    def broken(size: int, epochs: int) -> str:
        raise TrainingError("features are not finite")

    with pytest.raises(TrainingError, match="features are not finite"):
        _raced(400, broken=broken)
