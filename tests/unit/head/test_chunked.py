"""The chunked head against the plain definition, forward and backward, and its memory."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from fire_opd.head import DistributionWriter, LogitTransform, TeacherReader, logprob_entropy, reference_logprob_entropy
from fire_opd.head.divergences import divergence_parts, divergence_slope
from fire_opd.head.teacher import OutputMatrix
from fire_opd.spec import Divergence

TOLERANCE = {torch.float64: 1e-12, torch.float32: 5e-6}


def distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).double().norm() / expected.double().norm())


TRANSFORMS = [LogitTransform(), LogitTransform(0.125), LogitTransform(soft_cap=5.0), LogitTransform(0.5, 5.0)]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("outputs", ["logprob", "entropy", "both"])
@pytest.mark.parametrize("transform", TRANSFORMS, ids=["plain", "scaled", "capped", "both"])
def test_values_and_gradients(dtype: torch.dtype, temperature: float, outputs: str, transform: LogitTransform) -> None:
    torch.manual_seed(0)
    T, D, V = 37, 16, 301
    hidden, weight = torch.randn(T, D, dtype=dtype), torch.randn(V, D, dtype=dtype)
    targets, a, b = torch.randint(0, V, (T,)), torch.randn(T, dtype=dtype), torch.randn(T, dtype=dtype)

    def plain(hidden: torch.Tensor, weight: torch.Tensor, *rest: torch.Tensor, temperature: float) -> object:
        if transform.soft_cap is None:
            return reference_logprob_entropy(hidden * transform.scale, weight, *rest, temperature=temperature)
        logits = transform.soft_cap * torch.tanh(hidden @ weight.T * transform.scale / transform.soft_cap)
        return reference_logprob_entropy(logits, torch.eye(V, dtype=dtype), *rest, temperature=temperature)

    def run(head: object, **options: object) -> list[torch.Tensor]:
        leaves = [hidden.clone().requires_grad_(), weight.clone().requires_grad_()]
        logprob, entropy = head(*leaves, targets, temperature=temperature, **options)  # type: ignore[operator]
        loss = (logprob @ a if outputs != "entropy" else 0) + (entropy @ b if outputs != "logprob" else 0)
        return [logprob.detach(), entropy.detach(), *torch.autograd.grad(loss, leaves)]

    for found, expected in zip(run(logprob_entropy, chunk=10, transform=transform), run(plain), strict=True):
        assert distance(found, expected) <= TOLERANCE[dtype]


def test_gradcheck() -> None:
    torch.manual_seed(0)
    leaves = [
        torch.randn(5, 3, dtype=torch.float64, requires_grad=True),
        torch.randn(7, 3, dtype=torch.float64, requires_grad=True),
    ]
    targets = torch.randint(0, 7, (5,))
    for transform in TRANSFORMS:
        options = {"chunk": 2, "temperature": 0.8, "transform": transform}
        assert torch.autograd.gradcheck(lambda h, w, o=options: logprob_entropy(h, w, targets, **o), leaves)


DIVERGENCES = [Divergence("reverse_kl"), Divergence("forward_kl"), Divergence("jsd", 0.3), Divergence("top_k", top_k=5)]


def plain_divergence(divergence: Divergence, logp: torch.Tensor, logq: torch.Tensor) -> torch.Tensor:
    """By torch's own definition, differentiated by autograd."""
    kl = torch.nn.functional.kl_div  # (input, target): KL(target ‖ input)
    if divergence.kind == "reverse_kl":
        return kl(logq, logp, log_target=True, reduction="none").sum(-1)
    if divergence.kind == "forward_kl":
        return kl(logp, logq, log_target=True, reduction="none").sum(-1)
    if divergence.kind == "top_k":
        top = logq.topk(divergence.top_k).indices
        few = [torch.cat([x.gather(1, top), x.scatter(1, top, -torch.inf).logsumexp(1, True)], 1) for x in (logp, logq)]
        return kl(*few, log_target=True, reduction="none").sum(-1)
    beta = divergence.beta
    logm = (beta * logq.exp() + (1 - beta) * logp.exp()).log()
    both = [kl(logm, log, log_target=True, reduction="none").sum(-1) for log in (logq, logp)]
    return beta * both[0] + (1 - beta) * both[1]


@pytest.mark.parametrize("divergence", DIVERGENCES, ids=lambda d: d.kind)
@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("transform", TRANSFORMS, ids=["plain", "scaled", "capped", "both"])
def test_divergences(divergence: Divergence, alone: bool, transform: LogitTransform) -> None:
    torch.manual_seed(0)
    T, D, V = 23, 8, 51
    hidden, weight = torch.randn(T, D).double(), torch.randn(V, D).double()
    logq = (3 * torch.randn(T, V - 1).double()).log_softmax(-1)
    targets, (a, b, c) = torch.randint(0, V - 1, (T,)), torch.randn(3, T).double()

    def head(hidden: torch.Tensor, weight: torch.Tensor) -> tuple[torch.Tensor, ...]:
        options = {"divergence": divergence, "teacher": lambda part: logq[part]}
        return logprob_entropy(hidden, weight, targets, chunk=10, vocab=V - 1, transform=transform, **options)

    def plain(hidden: torch.Tensor, weight: torch.Tensor) -> tuple[torch.Tensor, ...]:
        logits = hidden @ weight[: V - 1].T * transform.scale
        if transform.soft_cap:
            logits = transform.soft_cap * (logits / transform.soft_cap).tanh()
        logp = logits.log_softmax(-1)
        entropy = -(logp.exp() * logp).sum(-1)
        return logp.gather(1, targets[:, None])[:, 0], entropy, plain_divergence(divergence, logp, logq)

    def run(function: object) -> list[torch.Tensor]:
        leaves = [hidden.clone().requires_grad_(), weight.clone().requires_grad_()]
        logprob, entropy, found = function(*leaves)  # type: ignore[operator]
        loss = found @ c + (0 if alone else logprob @ a + entropy @ b)
        return [found.detach(), *torch.autograd.grad(loss, leaves)]

    for found, expected in zip(run(head), run(plain), strict=True):
        assert distance(found, expected) <= 1e-12


@pytest.mark.parametrize("gap", [12.0, 20.0, 30.0])
def test_a_student_that_is_sure_where_its_teacher_is_not(gap: float) -> None:
    """What is left beside the top tokens is next to nothing: one less the others would be noise, and divide."""
    torch.manual_seed(0)
    logits, logq = torch.randn(200, 64).double(), torch.randn(200, 64).double().log_softmax(-1)
    logits[torch.arange(200), logq.argmax(1)] += gap
    few = Divergence("top_k", top_k=16)
    wanted = divergence_slope(few, logits.log_softmax(-1), logq)
    found = divergence_slope(few, (logits + 20).float().log_softmax(-1), logq.float())
    assert float((found.double() - wanted).abs().max()) < 1e-4
    values = [divergence_parts(few, part.log_softmax(-1), logq.to(part.dtype))[0] for part in (logits, logits.float())]
    assert torch.allclose(values[1].double(), values[0], rtol=1e-5)


def test_tokens_without_any_probability() -> None:
    """Beyond the smallest number of fp32, and where a server's teacher says that it is none at all."""
    logp = torch.tensor([[0.0, -200.0, -120.0]]).log_softmax(-1)
    jsd = Divergence("jsd", 0.3)
    for logq in (torch.tensor([[0.0, -150.0, -130.0]]), torch.tensor([[0.0, -torch.inf, -1.0]]).log_softmax(-1)):
        for divergence in (jsd, Divergence("forward_kl"), Divergence("top_k", top_k=2)):
            value, slope = (f(divergence, logp, logq) for f in (lambda *a: divergence_parts(*a)[0], divergence_slope))
            assert torch.isfinite(value).all()
            assert torch.isfinite(slope).all()


def test_divergences_golden() -> None:
    """Figures worked out by hand."""
    p, q = torch.tensor([[0.5, 0.3, 0.2]]).log(), torch.tensor([[0.6, 0.3, 0.1]]).log()
    reverse, forward = Divergence("reverse_kl"), Divergence("forward_kl")
    assert float(divergence_parts(reverse, p, q)[0]) == pytest.approx(0.0474687, abs=1e-6)
    assert float(divergence_parts(forward, p, q)[0]) == pytest.approx(0.0400782, abs=1e-6)
    expected = torch.tensor([[-0.1148951, -0.0142406, 0.1291357]])
    assert torch.allclose(divergence_slope(reverse, p, q), expected, atol=1e-6)
    assert torch.allclose(divergence_slope(forward, p, q), torch.tensor([[-0.1, 0, 0.1]]), atol=1e-6)
    teacher, student = torch.tensor([[0.4, 0.35, 0.2, 0.05]]).log(), torch.tensor([[0.5, 0.3, 0.15, 0.05]]).log()
    assert float(divergence_parts(forward, student, teacher)[0]) == pytest.approx(0.0222, abs=5e-5)
    assert float(divergence_parts(Divergence("top_k", top_k=2), student, teacher)[0]) == pytest.approx(0.0205, abs=5e-5)


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
    for values, wanted in zip((logprob, entropy), expected, strict=True):
        assert distance(values.detach(), wanted.detach()) < 1e-6
    found = torch.autograd.grad(logprob.sum(), leaves)
    for gradient, wanted in zip(found, torch.autograd.grad(expected[0].sum(), exact), strict=True):
        assert gradient.dtype == torch.bfloat16
        assert distance(gradient, wanted) < 2e-2


@pytest.mark.parametrize("transform", TRANSFORMS, ids=["plain", "scaled", "capped", "both"])
def test_bf16_advantages_are_not_rounded(transform: LogitTransform) -> None:
    """With logits in bf16 they were off by 1e-2 nat and more; the vocabulary is wider than one block of the product."""
    torch.manual_seed(0)
    T, D, V = 40, 64, 20_000
    targets, found, exact = torch.randint(0, V, (T,)), torch.zeros(T), torch.zeros(T).double()
    for sign in (-1, 1):  # of student and teacher
        hidden, weight = (3 * torch.randn(T, D)).bfloat16(), (torch.randn(V, D) / 3).bfloat16()
        found += sign * logprob_entropy(hidden, weight, targets, chunk=16, transform=transform)[0]
        products = hidden.double() @ weight.double().T
        logp = transform.apply_(products.clone()).log_softmax(1)
        exact += sign * logp.gather(1, targets[:, None])[:, 0]
        rows = OutputMatrix(weight, transform).logprobs(hidden, V)
        assert float((rows.double() - logp).abs().max()) < 1e-4
    assert float((found.double() - exact).abs().max()) < 1e-4


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
    """Remembers the most elements that any operation returned, of tensors that span the vocabulary and of others."""

    def __init__(self, vocab: int) -> None:
        super().__init__()
        self._vocab, self.wide, self.other = vocab, 0, 0

    def __torch_dispatch__(self, func: object, types: object, args: tuple = (), kwargs: dict | None = None) -> object:
        out = func(*args, **(kwargs or {}))  # type: ignore[operator]
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, torch.Tensor) and self._vocab in tensor.shape:
                self.wide = max(self.wide, tensor.numel())
            elif isinstance(tensor, torch.Tensor) and tensor.is_floating_point():  # else it is bytes of a file
                self.other = max(self.other, tensor.numel())
        return out


@pytest.mark.parametrize("T", [256, 2048])
def test_no_tensor_grows_with_tokens_times_vocabulary(T: int) -> None:
    D, V, chunk = 8, 1000, 64
    hidden, weight = torch.randn(T, D, requires_grad=True), torch.randn(V, D, requires_grad=True)
    with LargestTensor(V) as seen:
        logprob, entropy = logprob_entropy(hidden, weight, torch.randint(0, V, (T,)), chunk=chunk)
        (logprob + entropy).sum().backward()
    assert seen.wide <= chunk * V
    assert seen.other <= T * D


DIVERGENCES = [Divergence("reverse_kl"), Divergence("forward_kl"), Divergence("jsd"), Divergence("top_k")]


@pytest.mark.parametrize("divergence", DIVERGENCES, ids=lambda divergence: divergence.kind)
@pytest.mark.parametrize("vocab", [1000, 40], ids=["hidden states", "log-probs"])
def test_no_tensor_of_a_divergence_grows_with_tokens_times_vocabulary(
    divergence: Divergence, vocab: int, tmp_path: Path
) -> None:
    """Written, read and compared: the teacher's file is the only place that may hold V numbers a token."""
    T, D, chunk = 2048, 64, 16
    matrix, lengths = OutputMatrix(torch.randn(vocab, D), LogitTransform()), np.array([T - 5, 5])
    with LargestTensor(vocab) as seen:
        writer = DistributionWriter(tmp_path, "a", matrix, tokens=T, vocab=vocab, chunk=chunk)
        writer.put(np.arange(T), torch.randn(T, D))
        writer.close()
        options = {"vocab": vocab, "teachers": ["a", "a"], "lengths": lengths}
        rows = TeacherReader(tmp_path, "cpu", {"a": torch.float32}, **options).rows([1, 0])
        hidden, weight = torch.randn(T, D, requires_grad=True), torch.randn(vocab, D, requires_grad=True)
        targets = torch.randint(0, vocab, (T,))
        values = logprob_entropy(hidden, weight, targets, chunk=chunk, divergence=divergence, teacher=rows)
        torch.stack(values).sum().backward()
    assert seen.wide <= max(chunk, D) * vocab
    assert seen.other <= T * D
