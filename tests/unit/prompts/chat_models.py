"""Tokenizers made in code, and chat templates with the habits of well-known ones, written anew."""

from collections.abc import Sequence

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

SPECIAL = ("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<s>", "</s>", "[INST]", "[/INST]", "<|user|>")
ADDED = ("<think>", "</think>", "<tool_response>", "</tool_response>")
CONTROL = (*SPECIAL, *ADDED)

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
# Reasoning of turns before the last question is dropped (Qwen3); tool results in a user's turn are no question.
DROPS_REASONING = """
{%- set ns = namespace(seeking=true, last=0) %}
{%- for m in messages | reverse %}
    {%- set result = m.content.startswith('<tool_response>') and m.content.endswith('</tool_response>') %}
    {%- if ns.seeking and m.role == 'user' and not result %}
        {%- set ns.seeking = false %}
        {%- set ns.last = messages | length - loop.index %}
    {%- endif %}
{%- endfor %}
{%- for m in messages %}
    {%- set said = m.content %}
    {%- set thought = '' %}
    {%- if m.role == 'assistant' and '</think>' in said %}
        {%- set thought = said.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
        {%- set said = said.split('</think>')[-1].lstrip('\\n') %}
    {%- endif %}
    {{- '<|im_start|>' + m.role + '\\n' }}
    {%- if thought and loop.index0 > ns.last %}
        {{- '<think>\\n' + thought + '\\n</think>\\n\\n' }}
    {%- endif %}
    {{- said + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}
"""
# Today's date in the system turn, and contents are trimmed (Llama 3).
DATED = """
{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{%- set start = 1 if messages[0].role == 'system' else 0 %}
{{- "<|im_start|>system\\n\\nToday: " + date_string + "\\n" }}
{%- if start %}{{ messages[0].content | trim }}{% endif %}
{{- "<|im_end|>" }}
{%- for m in messages[start:] %}
    {{- "<|im_start|>" + m.role + "\\n\\n" + m.content | trim + "<|im_end|>" }}
{%- endfor %}
{%- if add_generation_prompt %}{{ "<|im_start|>assistant\\n\\n" }}{% endif %}
"""
# No system turn, turns alternate, contents are trimmed, other names of roles (Gemma).
ALTERNATES = """
{{- bos_token }}
{%- if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}
{%- for m in messages %}
    {%- if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}
    {{- '<|im_start|>' + ('model' if m.role == 'assistant' else m.role) + '\\n' + m.content | trim + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>model\\n' }}{% endif %}
"""
# No generation prompt: the end of the question opens the answer; the system message goes into the question (Mistral).
BRACKETS = """
{{- bos_token }}
{%- set start = 1 if messages[0].role == 'system' else 0 %}
{%- for m in messages[start:] %}
    {%- if m.role == 'user' %}
        {{- '[INST]' + (messages[0].content + '\\n\\n' if start and loop.last else '') + m.content + '[/INST]' }}
    {%- else %}{{ ' ' + m.content | trim + eos_token }}{% endif %}
{%- endfor %}
"""
# An assistant's turn that spells no reasoning gets an empty one; other turns pass through.
FILLS_REASONING = """
{%- for m in messages %}
    {{- '<|im_start|>' + m.role + '\\n' }}
    {%- if m.role == 'assistant' and '</think>' not in m.content %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}
    {{- m.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n<think>\\n' }}{% endif %}
"""
# Ends of turn are removed from contents; no end is written after an answer, the next question ends it (GLM).
CLEANS = """
{{- bos_token }}
{%- for m in messages %}
    {{- '<|user|>\\n' if m.role == 'user' else '[INST]\\n' }}
    {{- m.content | replace('<|im_end|>', '') }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '[INST]\\n' }}{% endif %}
"""
TEMPLATES = {
    "chatml": CHATML,
    "drops reasoning": DROPS_REASONING,
    "dated": DATED,
    "alternates": ALTERNATES,
    "brackets": BRACKETS,
    "fills reasoning": FILLS_REASONING,
    "cleans": CLEANS,
}


def build_tokenizer(
    template: str | None, *, before: Sequence[str] = (), after: Sequence[str] = (), metaspace: bool = False
) -> PreTrainedTokenizerFast:
    """Byte-level BPE, or BPE with word marks and byte fallback as Llama 2's.

    Args:
        template: chat template.
        before: special tokens that the tokenizer puts before a text.
        after: those behind it.
        metaspace: the second kind.
    """
    if metaspace:
        bytes_ = [f"<0x{i:02X}>" for i in range(256)]
        letters = {token: i for i, token in enumerate(["<unk>", *bytes_, "▁", *map(chr, range(33, 127))])}
        bpe = Tokenizer(models.BPE(vocab=letters, merges=[], unk_token="<unk>", byte_fallback=True))
        bpe.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
        bpe.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
    else:
        bpe = Tokenizer(models.BPE())
        bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        bpe.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
        bpe.train_from_iterator(["<think> thinking |im_end| user assistant Today 5\n\n"] * 9, trainer)
    bpe.add_special_tokens(list(SPECIAL))
    bpe.add_tokens([AddedToken(text, normalized=False) for text in (*ADDED, "    ")])
    around = [*before, *after]
    if around:
        single = " ".join([*before, "$A", *after])
        ids = [(token, bpe.token_to_id(token)) for token in dict.fromkeys(around)]
        bpe.post_processor = processors.TemplateProcessing(single=single, pair=f"{single} $B", special_tokens=ids)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token="<s>",
        eos_token="</s>" if template == BRACKETS else "<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=template,
    )
