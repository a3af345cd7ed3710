"""The loss: where its gradient goes, and what it is in expectation."""

from itertools import product

import pytest
import torch

from fire_opd.fire.losses import clipped_policy_loss, coefficients


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


def _distance(found: tuple[torch.Tensor, ...], expected: tuple[torch.Tensor, ...]) -> float:
    a, b = (torch.cat([g.flatten() for g in gradient]) for gradient in (found, expected))
    return float((a - b).norm() / b.norm())
