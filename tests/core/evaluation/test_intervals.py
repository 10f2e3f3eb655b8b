"""Wilson's interval against published numbers."""

import pytest

from tans_core.evaluation.intervals import wilson


def test_the_share_that_was_seen_is_never_outside():
    """Rounding put the upper end of 6 of 6 at 0.9999999999999999."""
    for total in range(1, 200):
        assert wilson(total, total)[1] == 1.0 and wilson(0, total)[0] == 0.0


@pytest.mark.parametrize(
    ("correct", "total", "low", "high"),
    [  # R. G. Newcombe, Statistics in Medicine 17 (1998), table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (20, 20, 1 - 0.1611, 1.0),
    ],
)
def test_the_interval_is_the_published_one(correct, total, low, high):
    assert wilson(correct, total) == pytest.approx((low, high), abs=5e-5)
