"""What counts can tell apart, worked by hand."""

import torch

from tans_core.evaluation.noise import level_with, peeled


def test_two_shares_are_level_within_one_standard_error_of_their_difference():
    # 81 of 102 and 77 of 102 by Laplace's rule: 0.0405 and 0.0430 as errors, 0.0591 together
    assert level_with((80, 100), (75, 100)) and not level_with((80, 100), (74, 100))
    assert level_with((32, 32), (31, 32))  # 33 of 34 and 32 of 34: 0.0297 and 0.0416, together 0.0511; apart 0.031
    assert not level_with((32, 32), (29, 32))  # 0.0297 and 0.0570, together 0.0643; apart 0.094


def answers(*rows: str) -> torch.Tensor:
    return torch.tensor([[letter == "1" for letter in row] for row in rows])


def test_on_the_same_images_only_those_count_that_one_has_right_and_the_other_wrong():
    # 6 right each way and 4 one way more: 4 <= sqrt(16). Without pairing nothing could be said of 4 of 24 either.
    best, noisy = "1" * 10 + "0" * 6 + "1" * 8, "0" * 10 + "1" * 6 + "1" * 8
    assert peeled(answers(best, noisy)) == [[0, 1]]
    # The same counts, but what the better one gains it never loses: 4 > sqrt(4).
    better, worse = "1" * 18 + "0" * 6, "1" * 14 + "0" * 10
    assert peeled(answers(worse, better)) == [[1], [0]]
    assert peeled(answers(worse, better), errors=2.0) == [[0, 1]]


def test_one_image_more_is_never_known():
    assert peeled(answers("1110", "1100")) == [[0, 1]]


def test_groups_are_peeled_from_the_best_of_those_left():
    rows = ["1" * right + "0" * (30 - right) for right in (10, 20, 30, 29, 19)]
    assert peeled(answers(*rows)) == [[2, 3], [1, 4], [0]]
