"""The examples of test_files.py, guided by what code they reach: `python -m tests.unit.fuzz.guided KIND FOLDER`.

Atheris changes bytes, Hypothesis draws the example from them. Options of libFuzzer follow (`-max_total_time=600`).
"""

import random
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["fire_opd", "tests.unit.fuzz"]):
    from hypothesis import given
    from hypothesis import strategies as st

    from tests.unit.fuzz.conftest import MANY
    from tests.unit.fuzz.test_files import KINDS, fuzz

_SEEDS, _LENGTH = 50, 4096


def main() -> None:
    """Never returns: libFuzzer ends the process, with a status other than 0 when an example failed."""
    name, folder, *options = sys.argv[1:]
    kind = next(kind for kind in KINDS if kind.__name__ == name)
    corpus = Path(folder) / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number in range(_SEEDS):  # long enough for Hypothesis to draw whole examples from
        (corpus / f"seed-{number}").write_bytes(random.Random(number).randbytes(_LENGTH))
    example = MANY(given(data=st.data())(fuzz(kind, Path(folder) / "files")))
    limits = [f"-max_len={_LENGTH}", "-len_control=0"]
    atheris.Setup([sys.argv[0], str(corpus), *limits, *options], example.hypothesis.fuzz_one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
