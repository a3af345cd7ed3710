"""Before any model is loaded: do student and teachers mean the same thing by the same token ids?

The teacher reads the student's tokens as they are, so ids must agree: of text, of special tokens, of end-of-sequence.
Padded vocabularies may differ in size (151936 and 152064 rows in the Qwen family); the real ones may not.
"""

from collections.abc import Mapping
from typing import Any

from transformers import AutoConfig, PreTrainedTokenizerBase

from fire_opd.errors import PreflightError
from fire_opd.models import load_tokenizer, stop_tokens, vocab_size
from fire_opd.spec import ModelSpec, RunSpec

PROBES = (
    "The quick brown fox jumps over the lazy dog.",
    "0123456789 3.14159 1e-6 1,000,000",
    "def f(x):\n\treturn {k: v for k, v in x.items() if v != None}\n",
    r"\boxed{\frac{a^2 + b^2}{2}} \le \sum_{i=1}^{n} x_i",
    "naïve café, Ωμέγα, 北京, 日本語, 🙂🚀",
    "  two  spaces\n\n\nthree lines\t\ttabs ",
    "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ !\"#$%&'()*+,-./:;<=>?@[]^_`{|}~",
)
_SHOWN = 5


def preflight(spec: RunSpec) -> dict[str, Any]:
    """Compare the student with each teacher.

    Prompts are rendered with the student's template for all; a teacher with another one is reported, not refused.

    Returns:
        `vocab` (rows of the output matrix that are real), and for each teacher whether its chat template is the same.

    Raises:
        PreflightError: naming the tokens that differ, or a model that cannot hold prompt and response.
    """
    student = load_tokenizer(spec.student)
    report: dict[str, Any] = {"vocab": vocab_size(spec.student), "same_template": {}}
    _check_length(spec, "student", spec.student)
    for name, teacher in spec.teachers.items():
        tokenizer = load_tokenizer(teacher)
        _check_vocabulary(name, student.get_vocab(), tokenizer.get_vocab())
        _check_text(name, student, tokenizer)
        _check_end(name, spec.student, teacher)
        _check_length(spec, f"teacher {name}", teacher)
        report["same_template"][name] = student.chat_template == tokenizer.chat_template
    return report


def _check_vocabulary(name: str, student: Mapping[str, int], teacher: Mapping[str, int]) -> None:
    different = [t for t in {*student, *teacher} if student.get(t) != teacher.get(t)]
    if different:
        different.sort(key=lambda t: (student.get(t, teacher.get(t, 0)), t))
        shown = "; ".join(f"{t!r}: {_id(student, t)} / {_id(teacher, t)}" for t in different[:_SHOWN])
        raise PreflightError(
            f"student and teacher {name} differ in {len(different)} token(s) (student id / teacher id): {shown}; "
            "use a teacher with the student's tokenizer"
        )


def _check_text(name: str, student: PreTrainedTokenizerBase, teacher: PreTrainedTokenizerBase) -> None:
    for text in PROBES:
        ours, theirs = student.encode(text, add_special_tokens=False), teacher.encode(text, add_special_tokens=False)
        if ours != theirs:
            at = next(
                (i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs))
            )
            raise PreflightError(
                f"student and teacher {name} split {text!r} differently from token {at} on: "
                f"{student.convert_ids_to_tokens(ours[at : at + _SHOWN])} / "
                f"{teacher.convert_ids_to_tokens(theirs[at : at + _SHOWN])}; use a teacher with the student's tokenizer"
            )


def _check_end(name: str, student: ModelSpec, teacher: ModelSpec) -> None:
    ours, theirs = (sorted(stop_tokens(model.path, model.revision)) for model in (student, teacher))
    if ours != theirs:
        raise PreflightError(
            f"student and teacher {name} end a response with different tokens: {ours} / {theirs}; a base student needs "
            "the end-of-sequence of its instruct teacher in generation_config.json"
        )


def _check_length(spec: RunSpec, name: str, model: ModelSpec) -> None:
    config = AutoConfig.from_pretrained(model.path, revision=model.revision, trust_remote_code=model.trust_remote_code)
    longest = getattr(config, "max_position_embeddings", None)
    needed = spec.prompts.max_tokens + spec.sampling.max_tokens
    if longest is not None and needed > longest:
        raise PreflightError(
            f"{name} holds {longest} positions; prompts.max_tokens + sampling.max_tokens = {needed}; lower one of them"
        )


def _id(vocabulary: Mapping[str, int], token: str) -> str:
    return str(vocabulary.get(token, "none"))
