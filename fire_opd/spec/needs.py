"""What each method needs of a run: the one place that goes by a method's name. Everyone else asks `needs`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from fire_opd.spec.method import MethodSpec

MethodName = Literal[
    "fire",
    "fire_kl",
    "opd",
    "reverse_kl",
    "gkd",
    "eopd",
    "iw_opd",
    "reopold",
    "tip",
    "exopd",
    "signed",
    "uni_opd",
    "random_filter",
    "random_weights",
    "position_weights",
    "fixed_negative",
    "random_filter_kl",
    "random_weights_kl",
]
ScoreColumn = Literal["divergences", "reference_logprobs", "logprobs_by_teacher", "correct"]


@dataclass(frozen=True)
class Divergence:
    """A divergence between student and teacher at one position.

    `beta` is the teacher's share of the mixture (jsd); `top_k` the teacher's tokens that are told apart, the others
    being one bucket (top_k).
    """

    kind: Literal["reverse_kl", "forward_kl", "jsd", "top_k"]
    beta: float = 0.5
    top_k: int = 16


def _reverse_kl(options: "MethodSpec") -> Divergence:
    return Divergence("reverse_kl")


def _mixture(options: "MethodSpec") -> Divergence:
    if options.beta in (0, 1):
        return Divergence("reverse_kl" if options.beta else "forward_kl")
    return Divergence("jsd", beta=options.beta or 0.0)


def _top_k(options: "MethodSpec") -> Divergence:
    return Divergence("top_k", top_k=options.top_k or 1)


@dataclass(frozen=True)
class Needs:
    """What a method needs of a run, and what of a spec means something to it.

    Attributes:
        options: its own in the spec's `method`, with their defaults (None: to be given).
        columns: of the scores, beyond log-probs and entropies of teacher and student; `correct` needs a grader,
            `reference_logprobs` the first student.
        divergence: what the loss compares whole distributions by, for its options; None: sampled tokens suffice.
        advantages: whether sampled tokens have any.
        filters: whether trajectories are filtered and tokens weighted; else all are taken as they are.
        teacher_entropies: whether selection reads them: for the weights (alpha above 0), always, or not.
        samples: the fewest rollouts of a prompt.
        length: whether selection asks how many rounds the run has.
        control: whether it is what is left when the idea is taken out of another.
        defaults: fields of other parts of the spec whose default is another with it.
    """

    options: Mapping[str, float | None] = field(default_factory=dict)
    columns: tuple[ScoreColumn, ...] = ()
    divergence: Callable[["MethodSpec"], Divergence] | None = None
    advantages: bool = True
    filters: bool = False
    teacher_entropies: Literal["weights", "always"] | None = None
    samples: int = 1
    length: bool = False
    control: bool = False
    defaults: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


_FIRE: dict[str, Any] = {"filters": True, "teacher_entropies": "weights"}
_WHOLE: dict[str, Any] = {"divergence": _reverse_kl, "advantages": False}
NEEDS: dict[MethodName, Needs] = {
    "fire": Needs(**_FIRE),
    "fire_kl": Needs(**_FIRE, **_WHOLE),
    "opd": Needs(),
    "reverse_kl": Needs(**_WHOLE),
    "gkd": Needs(options={"beta": 0.5}, divergence=_mixture, advantages=False),
    "eopd": Needs(options={"threshold": 0.8, "top_k": 16}, divergence=_top_k, teacher_entropies="always"),
    "iw_opd": Needs(options={"gamma": 0.5}),
    "reopold": Needs(options={"floor": 0.1, "keep": 0.2, "switch": 0.5}, length=True),
    "tip": Needs(options={"keep": 0.5}, columns=("divergences",), **_WHOLE),
    "exopd": Needs(options={"teacher_weight": 1.25}, columns=("reference_logprobs",)),
    "signed": Needs(options={"models": None}, columns=("logprobs_by_teacher",)),
    "uni_opd": Needs(options={"margin": 0.4}, columns=("correct",), samples=2, defaults={"loss": {"max_gap": 10.0}}),
    "random_filter": Needs(**_FIRE, control=True),
    "random_weights": Needs(filters=True, control=True),
    "position_weights": Needs(filters=True, control=True),
    "fixed_negative": Needs(options={"penalty": 1.0}, control=True),
    "random_filter_kl": Needs(**_FIRE, **_WHOLE, control=True),
    "random_weights_kl": Needs(filters=True, **_WHOLE, control=True),
}
