"""What a distillation method is to the pipeline. All of them are points of one form, summed over a round's tokens:

    L = Σ_t c_t [ PG(r_t, A_t) + u_t · D_t ]

PG is the clipped policy-gradient term of the sampled token with advantage A, D a divergence between the student's and
the teacher's whole distribution at that place, c the factor that carries the global divisor (losses.py). A and u are
numbers that selection computes once a round; a mask is a zero. Sampled-token methods have u = 0, distribution methods
A = 0.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fire_opd.fire.filter import filter_scores
from fire_opd.fire.ragged import Floats, Offsets, spread
from fire_opd.fire.weights import Weights, token_weights
from fire_opd.spec import NEEDS, MethodName, MethodSpec, Needs, RunSpec


@dataclass(frozen=True)
class Round:
    """The scores of one round: per-token values laid end to end, [T], and offsets of its trajectories, [B + 1]."""

    teacher_T: NDArray[np.float32]  # log-probs of the sampled tokens, nat
    student_T: NDArray[np.float32]  # of the student that sampled
    teacher_entropy_T: NDArray[np.float32] | None  # nat, of the whole next-token distribution; None: not asked for
    student_entropy_T: NDArray[np.float32]
    offsets: Offsets
    seeds: NDArray[np.uint64]  # [B], one a trajectory, for controls that draw
    prompt_B: NDArray[np.int64]  # [B], which trajectories answer the same prompt
    progress: float | None  # of the run before this round, 0 to 1, for methods that ask for it
    divergence_T: NDArray[np.float32] | None = None  # KL(πS ‖ πT), for methods that ask for it
    reference_T: NDArray[np.float32] | None = None  # log-probs of the first student, likewise
    by_teacher: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)  # of every teacher, likewise
    correct_B: NDArray[np.bool_] | None = None  # [B], the grader's verdicts, likewise
    eligible_B: NDArray[np.bool_] | None = None  # [B], what the filter may keep; others may hold what is no number

    def eligible(self) -> NDArray[np.bool_]:
        """Tokens [T] that figures of the whole round are over."""
        if self.eligible_B is None:
            return np.ones(len(self.teacher_T), dtype=bool)
        return spread(self.eligible_B, self.offsets)

    def advantage(self) -> Floats:
        """a_t = log πT(y_t) − log πS(y_t), fp64."""
        return np.subtract(self.teacher_T, self.student_T, dtype=np.float64)


Coefficients = tuple[Floats, Floats]
"""A_T and u_T."""


def rank_by_teacher(round: Round) -> Floats:
    """What the filter ranks trajectories by: the teacher's mean log-prob."""
    return filter_scores(round.teacher_T, round.offsets)


def weigh_by_entropy(round: Round, eligible: NDArray[np.bool_], groups: NDArray[np.int64], spec: RunSpec) -> Weights:
    """FiRe's token weights; all one where alpha and beta are zero."""
    options = spec.weights
    return token_weights(
        round.teacher_entropy_T,
        round.student_entropy_T,
        round.offsets,
        eligible,
        groups,
        alpha=options.alpha,
        beta=options.beta,
        maximum=options.maximum,
    )


@dataclass(frozen=True)
class Method:
    """One way to turn scores into gradients.

    Attributes:
        name: as in the spec; what it needs of a run, its divergence too, is `needs`.
        coefficients: A and u of a round from its scores, the weights w̃ (mean 1 a trajectory) and the method's options.
        rank: what the filter ranks trajectories by; the lowest are dropped.
        weigh: the weights.
    """

    name: MethodName
    coefficients: Callable[[Round, Floats, MethodSpec], Coefficients]
    rank: Callable[[Round], Floats] = rank_by_teacher
    weigh: Callable[[Round, NDArray[np.bool_], NDArray[np.int64], RunSpec], Weights] = weigh_by_entropy

    @property
    def needs(self) -> Needs:
        """What it needs of a run."""
        return NEEDS[self.name]
