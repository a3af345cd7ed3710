"""Which of several students is best."""

from fire_opd.evaluation.figure import ACCURACY, DIVERGENCE


def test_the_best_is_the_first_of_equals() -> None:
    assert ACCURACY.best([0.2, 0.9, 0.9, 0.5]) == 1
    assert ACCURACY.best([None, 0.0]) == 1
    assert DIVERGENCE.best([0.8, 0.3, None, 0.3]) == 1
    assert ACCURACY.best([None]) is None
    assert ACCURACY.best([]) is None
