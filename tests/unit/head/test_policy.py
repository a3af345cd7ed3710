"""Micro-batches and the policy: the same numbers padded, packed or one by one."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import Qwen3ForCausalLM

from fire_opd.demo.models import build_model
from fire_opd.head import Policy, collate, plan, reference_logprob_entropy
from tests.conftest import TINY

SEQUENCES = [([1, 2, 3], [4, 5]), ([7] * 5, [1, 2, 3, 4, 5, 6]), ([9, 8], [3]), ([5], [6, 7, 8, 9])]


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def model(request: pytest.FixtureRequest) -> Qwen3ForCausalLM:
    return build_model(TINY, 0, tied=request.param).eval()


def run(policy: Policy, groups: list[list[int]], *, packing: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probs in order of the sequences, and the gradient of a weighted sum of them."""
    policy.zero_grad()
    values: dict[int, torch.Tensor] = {}
    for group in groups:
        batch = collate([SEQUENCES[i] for i in group], packing=packing)
        logprob, _ = policy(batch)
        for i, part in zip(group, logprob.split(batch.lengths), strict=True):
            values[i] = part
    logprob = torch.cat([values[i] for i in range(len(SEQUENCES))])
    (logprob @ torch.linspace(-1, 1, len(logprob))).backward()
    gradient = torch.cat([p.grad.flatten() for p in policy.parameters() if p.grad is not None])
    return logprob.detach(), gradient


def test_every_layout_gives_the_same_numbers(model: Qwen3ForCausalLM) -> None:
    names = [name for name, _ in model.named_parameters()]
    with torch.no_grad():  # before the policy replaces the output layer's forward
        rows = []
        for prompt, response in SEQUENCES:
            hidden = model.model(torch.tensor([prompt + response])).last_hidden_state[0]
            first = len(prompt) - 1
            rows.append(reference_logprob_entropy(hidden[first:-1], model.lm_head.weight, torch.tensor(response))[0])
    policy = Policy(model)
    assert [name for name, _ in policy.model.named_parameters()] == names
    one_by_one = run(policy, [[i] for i in range(len(SEQUENCES))])
    assert torch.allclose(one_by_one[0], torch.cat(rows), atol=1e-5)
    for groups, packing in (
        ([[0, 1, 2, 3]], False),
        ([[0, 1, 2, 3]], True),
        ([[3, 1], [2, 0]], False),
        ([[2, 0, 1], [3]], True),
    ):
        logprob, gradient = run(policy, groups, packing=packing)
        assert torch.allclose(logprob, one_by_one[0], atol=1e-5)
        assert (gradient - one_by_one[1]).norm() <= 5e-6 * one_by_one[1].norm()


@pytest.mark.parametrize("packing", [True, False])
def test_a_neighbour_changes_nothing_bit_for_bit(model: Qwen3ForCausalLM, packing: bool) -> None:
    policy = Policy(model)
    other = [SEQUENCES[0], ([11] * 5, [12, 13, 14, 15, 16, 17]), *SEQUENCES[2:]]
    with torch.no_grad():
        before, after = (policy(collate(s, packing=packing))[0].split([2, 6, 1, 4]) for s in (SEQUENCES, other))
    assert not torch.equal(before[1], after[1])
    assert all(torch.equal(before[i], after[i]) for i in (0, 2, 3))


def test_gradient_checkpointing_changes_no_gradient(model: Qwen3ForCausalLM) -> None:
    policy = Policy(model)
    plain = run(policy, [[0, 1, 2, 3]])[1]
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.train()
    assert torch.allclose(run(policy, [[0, 1, 2, 3]])[1], plain, atol=1e-6)


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 120), st.booleans())
@settings(deadline=None)
def test_plan(lengths: list[int], budget: int, packing: bool) -> None:
    groups = plan(lengths, budget, packing=packing)
    assert sorted(i for group in groups for i in group) == list(range(len(lengths)))
    for group in groups:
        own = [lengths[i] for i in group]
        assert len(group) == 1 or (sum(own) if packing else len(own) * max(own)) <= budget
        assert own == sorted(own, reverse=True)
    assert groups == plan(lengths, budget, packing=packing)
