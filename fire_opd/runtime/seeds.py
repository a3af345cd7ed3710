"""Seeds with names. Nothing random happens from an unnamed seed."""

import hashlib


def derive_seed(*parts: int | str) -> int:
    """A 63-bit seed from what it is for, such as (spec seed, round, prompt fingerprint, sample).

    Hashing keeps neighbours apart: engines that add small numbers to a seed would otherwise repeat themselves.

    Raises:
        TypeError: a part is neither int nor str; a NumPy integer would silently name another seed.
    """
    for part in parts:
        if type(part) not in (int, str):
            raise TypeError(f"seed part {part!r} is a {type(part).__name__}; expected int or str")
    canonical = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.blake2b(canonical.encode(), digest_size=8).digest(), "big") >> 1
