"""Chat messages as prompt sets have them. What would change the prompt and cannot be rendered is refused by kind."""

import re
from typing import Any

from fire_opd.prompts.json_text import json_value
from fire_opd.prompts.problems import BadField
from fire_opd.prompts.suggest import SHAREGPT

Messages = tuple[tuple[str, str], ...]  # role, content

_ROLES = ("system", "user", "assistant")
_NO_TOOLS = "tool calls and their results are not supported: write them into the contents, or remove the rows"
_NO_MEDIA = "images, audio, video and files are not supported: only text"
_NO_REASONING = "reasoning beside the content would be lost: write it into the content, or remove it"
_NOT_CHAT = "expected text or a list of chat messages with role and content"
# Fields of a message that change what the model reads; others, such as `name`, are left alone.
_CHANGES = {
    **dict.fromkeys(("tool_calls", "function_call", "tool_call_id"), _NO_TOOLS),
    **dict.fromkeys(("reasoning_content", "reasoning", "thinking", "reasoning_details"), _NO_REASONING),
    **dict.fromkeys(("image", "images", "image_url", "audio", "audios", "video", "videos", "files"), _NO_MEDIA),
    **dict.fromkeys(("attachments", "documents"), _NO_MEDIA),
    "tools": _NO_TOOLS,
}
_REPR = re.compile(r"(?:array\()?[\[\s]*\{\s*'\w+'\s*:")
_REPR_OF_CHAT = re.compile(r"'(?:role|content)'\s*:")


def read_messages(value: Any) -> Messages:
    """The conversation that a prompt's field holds: text of one user turn, messages, or messages as JSON text.

    Raises:
        BadField: it is none, is no prompt (empty, without a question, ended by the assistant), or has what only some
            templates could render.
    """
    if isinstance(value, str):
        value = _from_json(value)
    if isinstance(value, str):
        value = [{"role": "user", "content": value}]
    if isinstance(value, dict) and "content" in value:
        raise BadField("is one chat message: put it into a list")
    if not isinstance(value, list) or not value:
        raise BadField(_NOT_CHAT, _found(value))
    messages = tuple(_message(number, message) for number, message in enumerate(value))
    last = len(messages) - 1
    if messages[last][0] == "assistant":
        raise BadField("the last turn is the assistant's: remove it (an answer goes into `answer`)", f"message {last}")
    if messages[last][0] != "user":
        raise BadField("the last turn is not the user's: end with a question", f"message {last}")
    for number, (role, content) in enumerate(messages):
        if role == "user" and not content.strip():
            raise BadField("empty", f"message {number}")
    return messages


def filled(value: Any) -> bool:
    """Whether a field says anything: not null, empty, or a structure of nulls as Parquet makes them."""
    if isinstance(value, dict):
        return any(filled(item) for item in value.values())
    if isinstance(value, str):
        return value.strip() not in ("", "[]", "{}", "null", "None")
    return value == value and bool(value)  # NaN is a gap


def broken(text: str) -> bool:
    """Whether there is half a surrogate pair in `text`, which no encoding can write."""
    return not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)


def _from_json(text: str) -> Any:
    """Messages where `text` is JSON of messages, else `text`: a question may look like JSON."""
    bare = text.strip("\ufeff \t\r\n")
    if _REPR.match(bare) and _REPR_OF_CHAT.search(bare):
        raise BadField("is messages as Python prints them: write them as JSON", f"found {text!r:.40}")
    if bare[:1] not in ("[", "{", '"'):
        return text
    try:
        value = json_value(bare)
    except (ValueError, RecursionError):
        return text
    if isinstance(value, str):
        inner = _from_json(value)  # encoded twice
        return text if isinstance(inner, str) else inner
    if isinstance(value, dict):
        for name in ("messages", "conversations", "conversation"):
            if isinstance(value.get(name), list) and (_all_chat(value[name]) or _all_sharegpt(value[name])):
                raise BadField(f"is an object with `{name}`: give that list itself, with role and content")
    values = value if isinstance(value, list) else [value]
    if _all_sharegpt(values):
        raise BadField(SHAREGPT)
    if values and all(isinstance(inner, list) and _all_chat(inner) for inner in values):
        raise BadField("is a list of conversations: give one, a list of messages")
    return value if _all_chat(values) else text


def _all_chat(values: list[Any]) -> bool:
    messages = bool(values) and all(isinstance(value, dict) and "role" in value for value in values)
    return messages and any("content" in value for value in values)


def _all_sharegpt(values: list[Any]) -> bool:
    return bool(values) and all(isinstance(value, dict) and {"from", "value"} <= value.keys() for value in values)


def _message(number: int, message: Any) -> tuple[str, str]:
    at = f"message {number}"
    if isinstance(message, str):
        inner = _from_json(f"[{message}]")
        message = message if isinstance(inner, str) else inner[0]
    if not isinstance(message, dict):
        raise BadField("expected role and content", f"{at}: {_found(message)}")
    if "from" in message and "value" in message:
        raise BadField(SHAREGPT, at)
    for field, value in message.items():
        if value and field in _CHANGES and filled(value):
            raise BadField(_CHANGES[field], at)
    role = message.get("role")
    if role in ("tool", "function"):
        raise BadField(_NO_TOOLS, at)
    if role not in _ROLES:
        raise BadField(f"expected one of the roles {', '.join(_ROLES)}", f"{at}: found {role!r:.40}")
    content = _content(at, message.get("content"))
    if broken(content):
        raise BadField("has half a surrogate pair; save the file as UTF-8", at)
    return role, content


def _content(at: str, content: Any) -> str:
    """Text as it is; the texts of a list of parts, which may be JSON text, laid end to end."""
    if isinstance(content, str):
        parts = _parts(content)
        return content if parts is None else "".join(_part(at, part) for part in parts)
    if content is None:
        raise BadField("expected role and content, and the content is missing or null", at)
    if not isinstance(content, list):
        raise BadField("expected role and content, with text or a list of text parts", f"{at}: {_found(content)}")
    return "".join(_part(at, part) for part in content)


def _parts(text: str) -> list[Any] | None:
    """The parts that `text` is as JSON; None where it is only text."""
    bare = text.strip()
    if not bare.startswith("[{"):
        return None
    try:
        value = json_value(bare)
    except (ValueError, RecursionError):
        return None
    typed = all(isinstance(part, dict) and isinstance(part.get("type"), str) for part in value)
    return value if typed and any("text" in part for part in value) else None


def _part(at: str, part: Any) -> str:
    if isinstance(part, str):
        return part
    kind = part.get("type") if isinstance(part, dict) else None
    if isinstance(part, dict) and kind in (None, "text", "input_text") and isinstance(part.get("text"), str):
        if any(filled(value) for name, value in part.items() if _is_media(name)):
            raise BadField(_NO_MEDIA, f"{at}: a part with more than text")
        return str(part["text"])
    if isinstance(kind, str) and kind.startswith(("tool", "function")):
        raise BadField(_NO_TOOLS, f"{at}: a part of type {kind}")
    if kind in ("thinking", "reasoning", "redacted_thinking"):
        raise BadField(_NO_REASONING, f"{at}: a part of type {kind}")
    if isinstance(kind, str) and (_is_media(kind) or kind in ("file", "document")):
        raise BadField(_NO_MEDIA, f"{at}: a part of type {kind}")
    raise BadField('expected parts such as {"type": "text", "text": …}', f"{at}: {_found(part)}")


def _is_media(name: str) -> bool:
    return any(kind in name for kind in ("image", "audio", "video"))


def _found(value: Any) -> str:
    return f"found {value!r:.60}"
