"""TRL's DistillationTrainer on the demo: same teachers, student, prompts, held-out set, batch, learning rate.

    python -m benchmarks.peers.trl_demo --assets .state/demo --seed 0 --updates 120

Prints one JSON line: set-up seconds, and (updates, seconds of training, greedy accuracy) every 12 updates; evaluation
takes no time in it. The full-vocabulary reverse KL (beta 1) is TRL's, each prompt by its own teacher.
"""

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "TRL_EXPERIMENTAL_SILENCE": "1", "TOKENIZERS_PARALLELISM": "false"}

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast

BATCH, LR, WARMUP, BETAS, MAX_TOKENS, EVERY = 64, 3.5e-4, 24, (0.9, 0.98), 64, 12


class RoutedBase(nn.Module):
    """Hidden states of each row by its own teacher, side by side in one vector: TRL's head takes one teacher."""

    def __init__(self, teachers: dict[str, Any], first_token: int) -> None:
        super().__init__()
        self.m, self.c = teachers["m"].model, teachers["c"].model
        self._first_token = first_token  # occurs in every prompt of domain m, and in no other

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **options: Any) -> Any:
        """Rows of domain m fill the first half of the vector, the others the second."""
        is_m = (input_ids == self._first_token).any(1)
        width = self.m.config.hidden_size
        out = torch.zeros(*input_ids.shape, 2 * width)
        positions = options.get("position_ids")
        for rows, base, start in ((is_m, self.m, 0), (~is_m, self.c, width)):
            if rows.any():
                kept = {} if positions is None else {"position_ids": positions[rows]}
                mask = None if attention_mask is None else attention_mask[rows]
                hidden = base(input_ids=input_ids[rows], attention_mask=mask, use_cache=False, **kept)
                out[rows, :, start : start + width] = hidden.last_hidden_state
        return BaseModelOutputWithPast(last_hidden_state=out)


class RoutedTeacher(nn.Module):
    """Two teachers as one model of twice their width."""

    def __init__(self, teachers: dict[str, Any], first_token: int) -> None:
        super().__init__()
        self.base_model, self.config = RoutedBase(teachers, first_token), teachers["m"].config
        self.generation_config = teachers["m"].generation_config
        weight = torch.cat([teachers["m"].lm_head.weight, teachers["c"].lm_head.weight], 1).detach()
        self.lm_head = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        self.lm_head.weight = nn.Parameter(weight, requires_grad=False)

    def get_output_embeddings(self) -> nn.Module:
        """As transformers' models have it."""
        return self.lm_head

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **options: Any) -> Any:
        """Logits of every position."""
        hidden = self.base_model(input_ids, attention_mask, **options).last_hidden_state
        return CausalLMOutputWithPast(logits=self.lm_head(hidden))


def accuracy(student: Any, tokenizer: Any, held_out: list[dict[str, str]]) -> float:
    """Greedy accuracy, by the demo's rule: one mark, and the answer after it."""
    student.eval()
    tokenizer.padding_side = "left"
    encoded = tokenizer(
        [row["prompt"] for row in held_out], return_tensors="pt", padding=True, add_special_tokens=False
    )
    with torch.no_grad():
        found = student.generate(
            input_ids=encoded.input_ids,
            attention_mask=encoded.attention_mask,
            max_new_tokens=MAX_TOKENS,
            do_sample=False,
            eos_token_id=1,
            pad_token_id=0,
        )
    right = 0
    for row, ids in zip(held_out, found[:, encoded.input_ids.shape[1] :].tolist(), strict=True):
        if 1 in ids:
            text = tokenizer.decode(ids[: ids.index(1)], skip_special_tokens=True)
            right += text.count("#") == 1 and text.partition("#")[2] == row["answer"]
    student.train()
    return right / len(held_out)


class Curve(TrainerCallback):  # type: ignore[misc]
    """Accuracy by updates and by seconds of training; evaluation is taken out of the seconds."""

    def __init__(self, student: Any, tokenizer: Any, held_out: list[dict[str, str]]) -> None:
        self._of = student, tokenizer, held_out
        self.points: list[tuple[int, float, float]] = []
        self._spent, self._begun = 0.0, 0.0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """The student before."""
        self.points.append((0, 0.0, accuracy(*self._of)))
        self._begun = time.monotonic()

    def on_step_end(self, arguments: Any, state: Any, control: Any, **_: Any) -> None:
        """A point every few updates."""
        if state.global_step % EVERY == 0:
            stopped = time.monotonic()
            self.points.append((state.global_step, stopped - self._begun - self._spent, accuracy(*self._of)))
            self._spent += time.monotonic() - stopped


def main() -> None:
    """Train, and print the curve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--assets", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--updates", type=int, default=120)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    begun = time.monotonic()
    torch.set_num_threads(arguments.threads)
    from datasets import Dataset
    from trl import DistillationConfig, DistillationTrainer

    assets: Path = arguments.assets
    held_out, prompts = (
        [json.loads(line) for line in (assets / "prompts" / f"{name}.jsonl").read_text().splitlines()]
        for name in ("held-out", "mixed")
    )
    tokenizer = AutoTokenizer.from_pretrained(assets / "teachers" / "m")
    student = AutoModelForCausalLM.from_pretrained(assets / "students" / str(arguments.seed), dtype=torch.float32)
    teachers = {
        domain: AutoModelForCausalLM.from_pretrained(assets / "teachers" / domain, dtype=torch.float32).eval()
        for domain in ("m", "c")
    }
    order = torch.randperm(len(prompts), generator=torch.Generator().manual_seed(arguments.seed)).tolist()
    rows = [{"prompt": prompts[i]["prompt"]} for i in order[: arguments.updates * BATCH]]
    options = DistillationConfig(
        output_dir=str(assets / "trl-out"),
        per_device_train_batch_size=BATCH,
        max_steps=arguments.updates,
        learning_rate=LR,
        lr_scheduler_type="cosine",
        warmup_steps=WARMUP,
        weight_decay=0.0,
        adam_beta1=BETAS[0],
        adam_beta2=BETAS[1],
        max_grad_norm=1.0,
        bf16=False,
        fp16=False,
        use_cpu=True,
        gradient_checkpointing=False,
        save_strategy="no",
        report_to=[],
        logging_steps=1000,
        seed=arguments.seed,
        disable_tqdm=True,
        dataloader_pin_memory=False,
        dataloader_num_workers=0,
        beta=1.0,
        temperature=1.0,
        top_p=1.0,
        top_k=0,
        max_completion_length=MAX_TOKENS,
    )
    curve = Curve(student, tokenizer, held_out)
    trainer = DistillationTrainer(
        model=student,
        teacher_model=RoutedTeacher(teachers, tokenizer.encode("M", add_special_tokens=False)[0]),
        args=options,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        callbacks=[curve],
    )
    set_up = time.monotonic() - begun
    trainer.train()
    print(json.dumps({"setup_seconds": round(set_up, 1), "points": curve.points}))


if __name__ == "__main__":
    main()
