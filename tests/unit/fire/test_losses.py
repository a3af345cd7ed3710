"""The loss: where its gradient goes, and what it is in expectation."""

from itertools import product

import pytest
import torch

from fire_opd.fire.losses import clipped_policy_loss, coefficients
from fire_opd.head import logprob_entropy
from fire_opd.spec import Divergence
from tests.unit.head.test_chunked import plain_divergence


def test_only_the_student_in_training_gets_a_gradient() -> None:
    tensors = [torch.randn(6, requires_grad=True) for _ in range(3)]
    loss, _ = clipped_policy_loss(*tensors, torch.ones(6) / 6, 0.2)
    loss.backward()
    assert tensors[0].grad is not None
    assert tensors[1].grad is None
    assert tensors[2].grad is None


def test_the_clip_acts_on_the_side_that_would_go_on_growing() -> None:
    logprob = torch.tensor([1.0, -1.0, 1.0, -1.0], requires_grad=True)
    advantage = torch.tensor([1.0, 1.0, -1.0, -1.0])
    loss, sums = clipped_policy_loss(logprob, torch.zeros(4), advantage, torch.ones(4), 0.2)
    loss.backward()
    assert [g != 0 for g in logprob.grad.tolist()] == [False, True, True, False]
    assert int(sums["clipped"]) == 2


def test_the_dual_clip_bounds_what_a_bad_token_costs() -> None:
    """Ratio e² = 7.4: with A = −1 the loss is 7.4, or 3 and without a gradient; with A = 1 the clip has acted."""
    for dual_clip, loss, gradients in ((None, 7.389 - 1.2, [True, False]), (3.0, 3.0 - 1.2, [False, False])):
        logprob = torch.tensor([2.0, 2.0], requires_grad=True)
        advantage = torch.tensor([-1.0, 1.0])
        found, _ = clipped_policy_loss(logprob, torch.zeros(2), advantage, torch.ones(2), 0.2, dual_clip)
        found.backward()
        assert found.item() == pytest.approx(loss, abs=1e-3)
        assert [g != 0 for g in logprob.grad.tolist()] == gradients


def test_an_extreme_ratio_stays_finite() -> None:
    loss, _ = clipped_policy_loss(torch.zeros(1), torch.full((1,), -1e4), torch.tensor([-1.0]), torch.ones(1), 0.2)
    assert torch.isfinite(loss)


@pytest.mark.parametrize("aggregation", ["seq-mean-token-mean", "token-mean"])
def test_the_sum_does_not_depend_on_micro_batches(aggregation: str) -> None:
    torch.manual_seed(0)
    lengths = [3, 1, 4, 2]
    divisor = len(lengths) if aggregation == "seq-mean-token-mean" else sum(lengths)
    columns = [torch.randn(sum(lengths)) for _ in range(3)]
    whole, _ = clipped_policy_loss(*columns, coefficients(lengths, aggregation, divisor), 0.2)
    parts = zip(*(column.split(lengths) for column in columns), lengths, strict=True)
    split = sum(clipped_policy_loss(*part, coefficients([n], aggregation, divisor), 0.2)[0] for *part, n in parts)
    assert float(whole) == pytest.approx(float(split), rel=1e-6)


def test_the_expected_gradient() -> None:
    """Enumerate all sequences of 2 tokens over 5: the gradient is that of per-position KLs with fixed prefixes.

    It is not the gradient of the sequence-level reverse KL, which would also credit a token for what follows it.
    """
    torch.manual_seed(0)
    V, T = 5, 2
    student = [torch.randn(V, dtype=torch.float64), torch.randn(V, V, dtype=torch.float64)]
    teacher = [
        torch.randn(V, dtype=torch.float64).log_softmax(-1),
        torch.randn(V, V, dtype=torch.float64).log_softmax(-1),
    ]
    parameters = [logits.clone().requires_grad_() for logits in student]
    first, second = (logits.log_softmax(-1) for logits in parameters)

    expected_loss = torch.zeros((), dtype=torch.float64)
    for a, b in product(range(V), range(V)):
        logprob = torch.stack([first[a], second[a, b]])
        reference = torch.stack([teacher[0][a], teacher[1][a, b]])
        loss, _ = clipped_policy_loss(
            logprob, logprob.detach(), (reference - logprob).detach(), torch.full((T,), 1 / T, dtype=torch.float64), 0.2
        )
        expected_loss = expected_loss + logprob.sum().exp().detach() * loss
    sampled = torch.autograd.grad(expected_loss, parameters, retain_graph=True)

    kl = [(p.exp() * (p - t)).sum(-1) for p, t in zip((first, second), teacher, strict=True)]
    fixed_prefixes = (kl[0] + first.exp().detach() @ kl[1]) / T
    stated = torch.autograd.grad(fixed_prefixes, parameters, retain_graph=True)
    assert _distance(sampled, stated) < 1e-12

    sequence_level = (kl[0] + first.exp() @ kl[1]) / T
    assert _distance(sampled, torch.autograd.grad(sequence_level, parameters)) > 0.05


@pytest.mark.parametrize(
    "divergence",
    [Divergence("reverse_kl"), Divergence("forward_kl"), Divergence("jsd", 0.3), Divergence("top_k", top_k=2)],
    ids=lambda divergence: divergence.kind,
)
def test_the_expected_gradient_of_a_divergence(divergence: Divergence) -> None:
    """Over all sequences of 2 tokens over 5: that of (1/T) Σ_t E_prefix D(πθ ‖ πT), prefixes held fixed.

    The head's gradient of every sequence, weighted with the sequence's probability, against autograd through torch's
    own definition of the divergence at the six prefixes.
    """
    torch.manual_seed(0)
    V, T = 5, 2
    student, teacher = (torch.randn(1 + V, V, dtype=torch.float64) for _ in range(2))  # rows: no prefix, then by token
    teacher = teacher.log_softmax(-1)
    logits = student.clone().requires_grad_()
    logp = student.log_softmax(-1)
    expected_loss = torch.zeros((), dtype=torch.float64)
    for a, b in product(range(V), range(V)):
        rows = torch.tensor([0, 1 + a])
        _, _, divergence_T = logprob_entropy(
            logits[rows],
            torch.eye(V, dtype=torch.float64),
            torch.tensor([a, b]),
            chunk=1,
            divergence=divergence,
            teacher=lambda part, rows=rows: teacher[rows[part]],
        )
        probability = (logp[0, a] + logp[1 + a, b]).exp()
        expected_loss = expected_loss + probability * divergence_T.sum() / T
    (found,) = torch.autograd.grad(expected_loss, logits)

    leaf = student.clone().requires_grad_()
    reach = torch.cat([torch.ones(1, dtype=torch.float64), logp[0].exp()])  # of each prefix
    stated = (reach @ plain_divergence(divergence, leaf.log_softmax(-1), teacher)) / T
    (wanted,) = torch.autograd.grad(stated, leaf)
    assert float((found - wanted).norm() / wanted.norm()) < 1e-12
    assert float(expected_loss) == pytest.approx(float(stated), rel=1e-12)


def _distance(found: tuple[torch.Tensor, ...], expected: tuple[torch.Tensor, ...]) -> float:
    a, b = (torch.cat([g.flatten() for g in gradient]) for gradient in (found, expected))
    return float((a - b).norm() / b.norm())
