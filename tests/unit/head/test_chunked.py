"""The chunked head against the plain definition, forward and backward, and its memory."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from fire_opd.head import logprob_entropy, reference_logprob_entropy

TOLERANCE = {torch.float64: 1e-12, torch.float32: 5e-6}


def distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).double().norm() / expected.double().norm())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("outputs", ["logprob", "entropy", "both"])
def test_values_and_gradients(dtype: torch.dtype, temperature: float, outputs: str) -> None:
    torch.manual_seed(0)
    T, D, V = 37, 16, 301
    hidden, weight = torch.randn(T, D, dtype=dtype), torch.randn(V, D, dtype=dtype)
    targets, a, b = torch.randint(0, V, (T,)), torch.randn(T, dtype=dtype), torch.randn(T, dtype=dtype)

    def run(head: object, **options: int) -> list[torch.Tensor]:
        leaves = [hidden.clone().requires_grad_(), weight.clone().requires_grad_()]
        logprob, entropy = head(*leaves, targets, temperature=temperature, **options)  # type: ignore[operator]
        loss = (logprob @ a if outputs != "entropy" else 0) + (entropy @ b if outputs != "logprob" else 0)
        return [logprob.detach(), entropy.detach(), *torch.autograd.grad(loss, leaves)]

    for found, expected in zip(run(logprob_entropy, chunk=10), run(reference_logprob_entropy), strict=True):
        assert distance(found, expected) <= TOLERANCE[dtype]


def test_gradcheck() -> None:
    torch.manual_seed(0)
    leaves = [
        torch.randn(5, 3, dtype=torch.float64, requires_grad=True),
        torch.randn(7, 3, dtype=torch.float64, requires_grad=True),
    ]
    targets = torch.randint(0, 7, (5,))
    assert torch.autograd.gradcheck(lambda h, w: logprob_entropy(h, w, targets, chunk=2, temperature=0.8), leaves)


def test_bf16_accumulates_in_fp32() -> None:
    torch.manual_seed(0)
    T, D, V = 2000, 32, 64
    hidden, weight = torch.randn(T, D, dtype=torch.bfloat16), torch.randn(V, D, dtype=torch.bfloat16)
    targets = torch.randint(0, V, (T,))
    leaves = [hidden.clone().requires_grad_(), weight.clone().requires_grad_()]
    logprob, entropy = logprob_entropy(*leaves, targets, chunk=50)
    assert logprob.dtype == entropy.dtype == torch.float32
    exact = [hidden.double().requires_grad_(), weight.double().requires_grad_()]
    expected = reference_logprob_entropy(*exact, targets)
    assert distance(logprob.detach(), expected[0].detach()) < 1e-2
    found = torch.autograd.grad(logprob.sum(), leaves)
    for gradient, wanted in zip(found, torch.autograd.grad(expected[0].sum(), exact), strict=True):
        assert gradient.dtype == torch.bfloat16
        assert distance(gradient, wanted) < 2e-2


def test_a_padded_vocabulary_takes_no_part() -> None:
    torch.manual_seed(0)
    hidden, weight, targets = torch.randn(9, 8), torch.randn(40, 8), torch.randint(0, 33, (9,))
    leaf = weight.clone().requires_grad_()
    found = logprob_entropy(hidden, leaf, targets, vocab=33)
    expected = reference_logprob_entropy(hidden, weight[:33], targets)
    assert all(torch.allclose(f, e, atol=1e-6) for f, e in zip(found, expected, strict=True))
    (gradient,) = torch.autograd.grad(found[0].sum(), leaf)
    assert not gradient[33:].any()


def test_no_tokens() -> None:
    hidden = torch.randn(0, 8, requires_grad=True)
    logprob, entropy = logprob_entropy(hidden, torch.randn(10, 8), torch.empty(0, dtype=torch.long))
    (logprob.sum() + entropy.sum()).backward()
    assert logprob.shape == entropy.shape == (0,)


class LargestTensor(TorchDispatchMode):
    """Remembers the most elements that any operation returned."""

    largest = 0

    def __torch_dispatch__(self, func: object, types: object, args: tuple = (), kwargs: dict | None = None) -> object:
        out = func(*args, **(kwargs or {}))  # type: ignore[operator]
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, torch.Tensor):
                self.largest = max(self.largest, tensor.numel())
        return out


@pytest.mark.parametrize("T", [256, 2048])
def test_no_tensor_grows_with_tokens_times_vocabulary(T: int) -> None:
    D, V, chunk = 8, 1000, 64
    hidden, weight = torch.randn(T, D, requires_grad=True), torch.randn(V, D, requires_grad=True)
    with LargestTensor() as seen:
        logprob, entropy = logprob_entropy(hidden, weight, torch.randint(0, V, (T,)), chunk=chunk)
        (logprob + entropy).sum().backward()
    assert seen.largest <= max(chunk * V, T * D)
