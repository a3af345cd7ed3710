from itertools import pairwise

import pytest

from fire_opd.spec import TrainSpec
from fire_opd.training.schedule import learning_rate


def test_warm_up_is_linear_and_ends_at_the_full_rate() -> None:
    train = TrainSpec(lr=1.0, warmup_updates=4)
    assert [learning_rate(train, update, 10) for update in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_cosine_falls_from_the_full_rate_to_its_floor_and_stays() -> None:
    train = TrainSpec(lr=2.0, schedule="cosine", warmup_updates=10, min_lr_ratio=0.05)
    rates = [learning_rate(train, update, 111) for update in range(10, 120)]
    assert rates[0] == 2.0
    assert rates[50] == pytest.approx(2.0 * 0.525)  # half-way between 1 and the floor
    assert rates[100] == pytest.approx(0.1)
    assert rates[101:] == [rates[100]] * 9
    assert all(left > right for left, right in pairwise(rates[:101]))


@pytest.mark.parametrize("total", [1, 2])
def test_a_schedule_of_one_or_two_updates_is_defined(total: int) -> None:
    train = TrainSpec(lr=1.0, schedule="cosine", warmup_updates=1)
    assert [learning_rate(train, update, total) for update in range(2)] == [1.0, 1.0]
