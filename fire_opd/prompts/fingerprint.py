"""Identity of a prompt set: the same in every order, file and format, 8 bytes a prompt while it is computed."""

import hashlib
from array import array

import numpy as np

from fire_opd.prompts.read import RawPrompt


class SetFingerprint:
    """Collects prompts with what belongs to them: answer, domain and teacher."""

    def __init__(self) -> None:
        self._identities = array("Q")  # a set may have millions

    def __len__(self) -> int:
        return len(self._identities)

    def add(self, prompt: RawPrompt, teacher: str | None) -> None:
        """Count one prompt in, with the teacher that it is routed to or names itself."""
        text = "\x1f".join((prompt.fingerprint, prompt.answer or "", prompt.domain or "", teacher or ""))
        self._identities.append(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big"))

    def hexdigest(self) -> str:
        """32 hexadecimal digits."""
        return hashlib.blake2b(np.sort(np.array(self._identities, "<u8")).tobytes(), digest_size=16).hexdigest()
