"""What a spec says that cannot be true together, told before anything starts."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from fire_opd.spec.cluster import unusable_cluster
from fire_opd.spec.method import FIRST_STUDENT
from fire_opd.spec.needs import NEEDS
from fire_opd.spec.placement import unusable
from fire_opd.spec.rules import DEFAULT_BOUNDS
from fire_opd.spec.server import unusable_servers

if TYPE_CHECKING:
    from fire_opd.spec.model import RunSpec


def contradictions(spec: "RunSpec") -> Iterator[str]:
    """Each contradiction as one line: the fields, what they say, and what to do."""
    of_placement = (unusable, unusable_cluster, unusable_servers)
    for part in (_sampling, _evaluation, _rules, _method, _rounds, _modes, _teachers, *of_placement):
        yield from part(spec)


def _sampling(spec: "RunSpec") -> Iterator[str]:
    sampling = spec.sampling
    if spec.rounds.rollouts % sampling.n:
        yield (
            f"rounds.rollouts ({spec.rounds.rollouts}) must be a multiple of sampling.n ({sampling.n}): "
            "a round takes whole prompts"
        )
    if sampling.temperature != 1:
        yield (
            f"sampling.temperature = {sampling.temperature}: scores, ratios and the engine's log-probs are of the "
            "untempered distribution, so rollouts must be sampled at 1"
        )
    if sampling.top_p < 1:
        yield (
            f"sampling.top_p = {sampling.top_p}: scores and ratios are of the whole distribution, so rollouts must be "
            "sampled from all of it; set it to 1"
        )


def _evaluation(spec: "RunSpec") -> Iterator[str]:
    for name, wanted in (("temperature", 1.0), ("greedy", False)):
        if not spec.evaluation.graded and (value := getattr(spec.evaluation, name)) != wanted:
            yield (
                f"evaluation.{name} = {value} with evaluation.grader = none: the reverse KL is "
                f"measured on answers drawn from the student itself; set it to {wanted}"
            )


def _rules(spec: "RunSpec") -> Iterator[str]:
    """Bounds of figures that this run never has."""
    bounds = spec.rules.bounds
    if "unreadable" in bounds and not spec.evaluation.graded:
        yield "rules.bounds.unreadable with evaluation.grader = none: no answer is read; leave it out, or take a grader"
    if spec.rounds.staleness and bounds.get("first_ratio_error") != DEFAULT_BOUNDS["first_ratio_error"]:
        yield (
            "rules.bounds.first_ratio_error with rounds.staleness = 1: from round 2 on the ratio is not 1 at the first "
            "step, since an older student sampled; leave it out"
        )


def _method(spec: "RunSpec") -> Iterator[str]:
    name, needs = spec.method.name, spec.method.needs
    for field, value in _unread(spec).items():
        others = ", ".join(other for other, its in NEEDS.items() if its.filters and its.teacher_entropies)
        yield (
            f"{field} = {value} with method.name = {name}, which makes no use of it; use one of {others}, or leave it "
            "out"
        )
    if spec.loss.dual_clip is not None and not needs.advantages and not spec.loss.reference_kl:
        yield f"loss.dual_clip = {spec.loss.dual_clip} with method.name = {name}: no token has an advantage; omit it"
    if spec.sampling.n < needs.samples or ("correct" in needs.columns and not spec.evaluation.graded):
        yield (
            f"method.name = {name} with sampling.n = {spec.sampling.n}, evaluation.grader = {spec.evaluation.grader}: "
            f"it compares right and wrong rollouts of one prompt; set n to {needs.samples} or more and a grader that "
            "grades"
        )
    models = spec.method.models or {}
    if unknown := sorted(models.keys() - {*spec.teachers, FIRST_STUDENT}):
        yield f"method.models: no {unknown}; there are {[*spec.teachers, FIRST_STUDENT]}"
    if models and FIRST_STUDENT in spec.teachers:
        yield f"teachers: {FIRST_STUDENT!r} is the student before training in method.models; rename the teacher"


def _unread(spec: "RunSpec") -> dict[str, object]:
    """Fields of filter and weights that are given and that the method of the run does not read."""
    needs = spec.method.needs
    given = {part: getattr(spec, part).model_dump(exclude_defaults=True) for part in ("filter", "weights")}
    unread: dict[str, object] = {}
    if not needs.filters:
        unread |= {"filter.percentile": spec.filter.percentile, "filter.scope": given["filter"].get("scope")}
        unread |= {"weights.alpha": spec.weights.alpha, "weights.beta": spec.weights.beta}
    if needs.teacher_entropies != "weights":
        unread |= {f"weights.{name}": given["weights"].get(name) for name in ("scope", "maximum")}
    return {field: value for field, value in unread.items() if value}


def _rounds(spec: "RunSpec") -> Iterator[str]:
    rounds, train = spec.rounds, spec.train
    if rounds.updates > rounds.rollouts:
        yield f"rounds.updates ({rounds.updates}) exceeds rounds.rollouts ({rounds.rollouts})"
    if train.warmup_updates > spec.total_updates:
        yield (
            f"train.warmup_updates ({train.warmup_updates}) exceeds the {spec.total_updates} updates of the run; lower "
            "it, or raise rounds.count, rounds.updates or train.total_updates"
        )
    for name, part in (("filter", spec.filter), ("weights", spec.weights)):
        if (part.scope == "micro_batch") != (part.micro_batch is not None):
            yield f"{name}.micro_batch is given exactly when {name}.scope is micro_batch (scope: {part.scope})"
    percentile, scope = spec.filter.percentile, spec.filter.micro_batch or rounds.rollouts
    if percentile and scope * percentile < 100:
        yield (
            f"filter.percentile = {percentile} over a scope of {scope} rollouts selects less than one trajectory; "
            f"use a scope of at least {-(-100 // percentile)}, or percentile 0 to keep all"
        )


def _modes(spec: "RunSpec") -> Iterator[str]:
    """What the models' parts cannot do where they are placed."""
    place = spec.placement
    for role in ("sampler", "scorer", "trainer"):
        if getattr(place, role).mode == "sleep" and place.device == "cpu":
            yield (
                f"placement.{role}.mode = sleep moves GPU memory to the host; on a CPU use resident, or cold to free "
                "memory"
            )
        if (mode := getattr(place, role).mode) != "resident" and spec.rounds.staleness:
            yield (
                f"placement.{role}.mode = {mode} with rounds.staleness = 1: engines would wake or end while others "
                "work; use resident, or staleness 0"
            )
    if spec.train.zero == 0 and spec.student.dtype == "bfloat16":
        yield (
            "train.zero = 0 with student.dtype = bfloat16: DeepSpeed then adds up gradients in bfloat16; set "
            "train.zero to 1, 2 or 3"
        )
    models = {"student": spec.student, **{f"teachers.{name}": teacher for name, teacher in spec.teachers.items()}}
    for field, model in models.items():
        if model.attention in ("flash_attention_2", "flex_attention") and place.device == "cpu":
            yield f"{field}.attention = {model.attention} needs placement.device cuda; on a CPU use auto"
    if place.device == "cuda" and spec.student.adapted and len(place.sampler.devices) > place.sampler.replicas:
        yield (
            f"placement.sampler.devices = {place.sampler.devices} with student.adapter: an adapter that is split over "
            "GPUs is not proved; give each replica one GPU, with as many placement.sampler.replicas"
        )
    if place.sampler.mode == "sleep" and spec.student.adapted:
        yield "placement.sampler.mode = sleep with student.adapter: not supported; use resident or cold"
    if place.trainer.mode == "cold" and spec.storage.state_every > 1:
        yield (
            f"placement.trainer.mode = cold with storage.state_every = {spec.storage.state_every}: a state that is not "
            "written is in the trainer's memory, and would be trained again each round; use resident, or state_every 1"
        )
    if place.trainer.mode == "sleep" and spec.train.zero not in (1, 2):
        yield (
            "placement.trainer.mode = sleep needs train.zero 1 or 2: DeepSpeed offloads no plain optimiser, and at "
            "ZeRO 3 only its own fused Adam; use cold"
        )


def _teachers(spec: "RunSpec") -> Iterator[str]:
    if sum(not teacher.domains for teacher in spec.teachers.values()) > 1:
        yield "teachers: more than one teacher has no `domains`; only one may serve all other prompts"
    for name in spec.teachers:
        if not re.fullmatch("[A-Za-z0-9_][A-Za-z0-9._-]*", name):
            yield (
                f"teachers: {name!r}: expected letters, digits, `.`, `-` and `_`, for it names folders and stands in "
                "commands"
            )
    claimed = [domain for teacher in spec.teachers.values() for domain in teacher.domains]
    for domain in sorted({domain for domain in claimed if claimed.count(domain) > 1}):
        yield f"teachers: domain {domain!r} has more than one teacher"
