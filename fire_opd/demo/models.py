"""The demo's models: small Qwen3s with tied embeddings over a vocabulary of 64 characters.

Head size 32, because vLLM's CPU attention kernel refuses smaller ones.
"""

from dataclasses import dataclass
from string import ascii_lowercase, digits
from typing import Any

PAD, EOS, UNKNOWN = "<pad>", "<eos>", "<unk>"
SPECIAL = (PAD, EOS, UNKNOWN, "<reserved0>", "<reserved1>", "<reserved2>")
CHARACTERS = digits + ascii_lowercase + "MC" + "+=:;,.#>" + " \n-*/()?!<_'"  # the last twelve occur in no prompt
VOCABULARY = (*SPECIAL, *CHARACTERS)
MAX_LENGTH = 128  # the longest prompt is 15 tokens, the longest response 64

_CHAT_TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


@dataclass(frozen=True)
class Shape:
    """Size of a demo model; 4 query heads and 2 key-value heads of 32."""

    hidden: int
    ffn: int
    layers: int
    init_std: float  # of the matrices: sums are learnt sooner from a large one, programs from a small one


TEACHER = Shape(hidden=128, ffn=512, layers=4, init_std=0.05)  # 1.0 M parameters
STUDENT = Shape(hidden=96, ffn=288, layers=3, init_std=0.03)  # 0.36 M parameters


def build_tokenizer() -> Any:
    """A `PreTrainedTokenizerFast`: one token a character, no beginning-of-sequence, a template that adds nothing."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({token: i for i, token in enumerate(VOCABULARY)}, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=EOS,
        pad_token=PAD,
        unk_token=UNKNOWN,
        chat_template=_CHAT_TEMPLATE,
        model_max_length=MAX_LENGTH,
        clean_up_tokenization_spaces=False,
    )


def build_model(shape: Shape, seed: int, *, tied: bool = True, rows: int = len(VOCABULARY)) -> Any:
    """A freshly initialised fp32 Qwen3 of `shape`, a function of `seed` alone.

    Args:
        shape: its size.
        seed: of the initialisation.
        tied: whether the output matrix is the embedding.
        rows: of the embedding; more than the vocabulary pads it.
    """
    import torch
    from transformers import GenerationConfig, Qwen3Config, Qwen3ForCausalLM

    special = {"eos_token_id": VOCABULARY.index(EOS), "pad_token_id": VOCABULARY.index(PAD), "bos_token_id": None}
    config = Qwen3Config(
        vocab_size=rows,
        hidden_size=shape.hidden,
        intermediate_size=shape.ffn,
        num_hidden_layers=shape.layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        initializer_range=shape.init_std,
        max_position_embeddings=MAX_LENGTH,
        tie_word_embeddings=tied,
        dtype="float32",
        attn_implementation="sdpa",
        **special,
    )
    torch.manual_seed(seed)
    model = Qwen3ForCausalLM(config)
    model.generation_config = GenerationConfig(**special)
    return model
