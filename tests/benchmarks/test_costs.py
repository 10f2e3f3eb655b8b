"""Figures of storage and of latency, worked by hand."""

import pytest

from benchmarks import latency, storage


def stored(
    val_total: int, right: tuple[int, int, int], changed: tuple[int, int, int], size: tuple[int, int, int]
) -> dict:
    def by(values: tuple[int, int, int]) -> dict[str, int]:
        return dict(zip(storage.DTYPES, values))

    return {"dataset": "a", "val_total": val_total, "val_correct": by(right), "changed": by(changed), "bytes": by(size)}


def test_drift_is_a_distance_and_bytes_are_a_mean_of_ratios():
    networks = [
        stored(200, (100, 101, 100), (0, 1, 2), (1000, 500, 500)),  # half a point more; bfloat16: 2 changes, 32 bits
        stored(50, (40, 39, 44), (0, 1, 4), (3000, 1800, 900)),  # two points less; bfloat16: 32 bits
        stored(100, (10, 30, 11), (0, 2, 1), (4000, 2000, 2000)),  # 2 changes: 32 bits; bfloat16: one point more
    ]
    found = storage.summary(networks)
    assert (found["dtype"], found["networks"], found["validation_images"]) == ("float16", 3, 350)
    assert found["bytes_row_ratio"] == pytest.approx((0.5 + 0.6 + 1) / 3)
    assert (found["changed_predictions_max"], found["changed_predictions"], found["stored_in_32_bits"]) == (1, 2, 1)
    assert found["drift_points_mean"] == pytest.approx((0.5 + 2 + 0) / 3)
    assert found["drift_points_signed"] == pytest.approx((0.5 - 2 + 0) / 3)
    beside = found["beside"]["bfloat16"]
    assert (beside["changed_predictions_max"], beside["drift_points_mean"]) == (1, pytest.approx(1 / 3))
    assert (beside["bytes_row_ratio"], beside["stored_in_32_bits"]) == (pytest.approx((1 + 1 + 0.5) / 3), 2)


def test_errors_of_latency_are_shares_of_what_was_measured_and_the_first_size_counts():
    small = {"image_size": 64, "predicted_ms": [11, 8, 20], "measured_ms": [10, 10, 20]}
    large = {"image_size": 96, "predicted_ms": [30, 30, 30], "measured_ms": [40, 40, 60]}
    found = latency.summary([small, large])
    assert found["relative_error_median"] == pytest.approx(0.1)
    assert found["relative_error_p95"] == pytest.approx(0.1 + 0.9 * 0.1)  # 1.9 steps up 0, 0.1, 0.2
    assert found["by_image_size"]["96"]["relative_error_median"] == pytest.approx(0.25) and found["networks"] == 3
