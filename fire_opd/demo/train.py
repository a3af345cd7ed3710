"""Supervised training of the demo's models: a plain loop on one thread, and greedy or sampled accuracy.

One process builds one model: `python -m fire_opd.demo.train DIR (m | c | student) SEED`. It ends when its standard
input does, so that it never outlives the build that started it. On one thread the same seed gives the same bytes.
"""

import json
import math
import os
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from fire_opd.demo import tasks
from fire_opd.demo.models import EOS, STUDENT, TEACHER, VOCABULARY, build_model, build_tokenizer
from fire_opd.demo.tasks import Problem
from fire_opd.errors import FireOpdError

BATCH, WARMUP, BETAS, CLIP = 32, 30, (0.9, 0.98), 1.0
TEACHER_STEPS, TEACHER_LR, TEACHER_LEAST = 500, 3e-3, 0.95
STUDENT_LR, STUDENT_POOL = 2e-3, 600  # examples of each domain
STUDENT_FIRST, STUDENT_EVERY, STUDENT_LAST, STUDENT_TARGET = 100, 10, 1500, 0.40
WEAKER_ROWS = 24  # of each batch of 32, for the domain that is behind

_PAD_ID, _EOS_ID = 0, VOCABULARY.index(EOS)
_ID = {token: i for i, token in enumerate(VOCABULARY)}
_IGNORED = -100

Example = tuple[str, str]


@dataclass(frozen=True)
class Training:
    """How a demo model was trained and what it can do on the held-out prompts (of its domain); written beside it."""

    steps: int
    greedy: float
    sampled: float


def build_teacher(directory: Path, domain: str) -> Training:
    """Train the teacher of `domain` on fresh examples and write it to `directory`.

    Raises:
        FireOpdError: it stayed below the accuracy that makes it a teacher.
    """
    model = build_model(TEACHER, seed=tasks.DOMAINS.index(domain))
    stream = tasks.examples(domain, Random(f"fire-opd demo teacher {domain}"), tasks.reserved())
    optimizer = _optimizer(model, TEACHER_LR)
    for step in range(TEACHER_STEPS):
        cosine = 0.5 * (1 + math.cos(math.pi * step / TEACHER_STEPS))
        _set_lr(optimizer, TEACHER_LR * min(1, (step + 1) / WARMUP) * cosine)
        _step(model, optimizer, _take(stream, BATCH))
    training = _measure(model, [problem for problem in tasks.held_out() if problem.domain == domain], TEACHER_STEPS)
    if training.greedy < TEACHER_LEAST:
        raise FireOpdError(
            f"demo teacher {domain}: {training.greedy:.1%} greedy after {TEACHER_STEPS} steps, expected at least "
            f"{TEACHER_LEAST:.0%}; its recipe does not work with this torch ({torch.__version__})"
        )
    _save(model, directory, training)
    return training


def build_student(directory: Path, seed: int) -> Training:
    """Train a student on a small pool until it is right on 40 % of the validation prompts; write it to `directory`.

    Which domain breaks through first depends on the seed, so the one behind gets most of every batch: otherwise one
    student in two would not know the second task at all, and nothing on-policy could start there.

    Raises:
        FireOpdError: it never got there.
    """
    model = build_model(STUDENT, seed=1000 + seed)
    rng, exclude = Random(f"fire-opd demo student {seed}"), tasks.reserved()
    pools = {domain: _take(tasks.examples(domain, rng, exclude), STUDENT_POOL) for domain in tasks.DOMAINS}
    streams = {domain: _epochs(pool, rng) for domain, pool in pools.items()}
    rows = dict.fromkeys(tasks.DOMAINS, BATCH // 2)
    problems = {domain: [p for p in tasks.validation() if p.domain == domain] for domain in tasks.DOMAINS}
    optimizer = _optimizer(model, STUDENT_LR)
    for step in range(1, STUDENT_LAST + 1):
        _set_lr(optimizer, STUDENT_LR * min(1, step / WARMUP))
        _step(model, optimizer, [example for domain in rows for example in _take(streams[domain], rows[domain])])
        if step < STUDENT_FIRST or step % STUDENT_EVERY:
            continue
        right = {domain: accuracy(model, problems[domain]) for domain in tasks.DOMAINS}
        mean = sum(right.values()) / len(right)
        if mean >= STUDENT_TARGET:
            training = _measure(model, tasks.held_out(), step)
            _save(model, directory, training)
            return training
        weaker = min(tasks.DOMAINS, key=lambda domain: right[domain])
        rows = {domain: WEAKER_ROWS if domain == weaker else BATCH - WEAKER_ROWS for domain in tasks.DOMAINS}
    raise FireOpdError(
        f"demo student {seed}: below {STUDENT_TARGET:.0%} on the validation prompts after {STUDENT_LAST} steps; "
        "choose another seed"
    )


def accuracy(model: Any, problems: Sequence[Problem], *, temperature: float = 0.0, seed: int = 0) -> float:
    """Share of `problems` answered right and ended in time; temperature 0 is greedy."""
    responses = complete(model, [encode(p.prompt) for p in problems], temperature=temperature, seed=seed)
    right = 0
    for problem, ids in zip(problems, responses, strict=True):
        ended = ids[-1] == _EOS_ID
        right += ended and tasks.is_correct("".join(VOCABULARY[i] for i in ids[:-1]), problem.answer)
    return right / len(problems)


@torch.no_grad()
def complete(model: Any, prompts: Sequence[list[int]], *, temperature: float = 0.0, seed: int = 0) -> list[list[int]]:
    """Continue token ids until end-of-sequence (included) or 64 tokens; prompts of one length go together, unpadded."""
    generator = torch.Generator().manual_seed(seed)
    by_length: dict[int, list[int]] = defaultdict(list)
    for row, prompt in enumerate(prompts):
        by_length[len(prompt)].append(row)
    responses: list[list[int]] = [[] for _ in prompts]
    for rows in by_length.values():
        new_BT = _continue(model, torch.tensor([prompts[row] for row in rows]), temperature, generator)
        for row, ids in zip(rows, new_BT.tolist(), strict=True):
            responses[row] = ids[: ids.index(_EOS_ID) + 1] if _EOS_ID in ids else ids
    return responses


def encode(text: str) -> list[int]:
    """Token ids of `text`, one a character; the same as the tokenizer's."""
    return [_ID[character] for character in text]


def _continue(model: Any, input_BT: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    cache, new, ended_B = None, list[Tensor](), torch.zeros(len(input_BT), dtype=torch.bool)
    while len(new) < tasks.MAX_RESPONSE and not ended_B.all():
        output = model(input_ids=input_BT, past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache, logits_BV = output.past_key_values, output.logits[:, -1]
        if temperature:
            next_B = torch.multinomial((logits_BV / temperature).softmax(-1), 1, generator=generator)[:, 0]
        else:
            next_B = logits_BV.argmax(-1)
        ended_B |= next_B == _EOS_ID
        new.append(next_B)
        input_BT = next_B[:, None]
    return torch.stack(new, dim=1)


def _collate(examples: Sequence[Example]) -> tuple[Tensor, Tensor]:
    """Input ids and labels, both [B, T], padded on the right; labels cover the response and its end-of-sequence."""
    rows = [(encode(prompt), [*encode(response), _EOS_ID]) for prompt, response in examples]
    longest = max(len(prompt) + len(response) for prompt, response in rows)
    input_BT = torch.full((len(rows), longest), _PAD_ID)
    label_BT = torch.full((len(rows), longest), _IGNORED)
    for row, (prompt, response) in enumerate(rows):
        end = len(prompt) + len(response)
        input_BT[row, :end] = torch.tensor(prompt + response)
        label_BT[row, len(prompt) : end] = torch.tensor(response)
    return input_BT, label_BT


def _step(model: Any, optimizer: torch.optim.Optimizer, examples: Sequence[Example]) -> None:
    input_BT, label_BT = _collate(examples)
    logits_BTV = model(input_ids=input_BT, use_cache=False).logits
    loss = functional.cross_entropy(logits_BTV[:, :-1].flatten(0, 1), label_BT[:, 1:].flatten(), ignore_index=_IGNORED)
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
    optimizer.step()


def _take(stream: Iterator[Example], count: int) -> list[Example]:
    return list(islice(stream, count))


def _epochs(pool: Sequence[Example], rng: Random) -> Iterator[Example]:
    while True:
        yield from rng.sample(pool, len(pool))


def _optimizer(model: Any, lr: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=lr, betas=BETAS)


def _set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr


def _measure(model: Any, problems: Sequence[Problem], steps: int) -> Training:
    return Training(steps, accuracy(model, problems), accuracy(model, problems, temperature=1.0))


def _save(model: Any, directory: Path, training: Training) -> None:
    model.save_pretrained(directory)
    build_tokenizer().save_pretrained(directory)
    (directory / "training.json").write_text(json.dumps(asdict(training), indent=1) + "\n")


def _end_with_parent() -> None:
    os.read(0, 1)  # not sys.stdin: the interpreter's end would wait for its lock
    os._exit(1)


def main(arguments: Sequence[str]) -> None:
    """Build the named model into the given directory; see the module's docstring."""
    from transformers.utils import logging

    directory, role, seed = Path(arguments[0]), arguments[1], int(arguments[2])
    threading.Thread(target=_end_with_parent, daemon=True).start()
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    training = build_student(directory, seed) if role == "student" else build_teacher(directory, role)
    name = f"student {seed}" if role == "student" else f"teacher {role}"
    accuracies = f"held-out accuracy {training.greedy:.1%} greedy, {training.sampled:.1%} sampled"
    print(f"{name}: {training.steps} steps, {accuracies}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
