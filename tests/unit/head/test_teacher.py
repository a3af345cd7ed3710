"""The teacher's distribution, kept as log-probs or as hidden states, is the teacher's own."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fire_opd.errors import ArtifactError
from fire_opd.head import DistributionWriter, LogitTransform, TeacherReader, first_tokens, join_distributions
from fire_opd.head.teacher import OutputMatrix

CPU = torch.device("cpu")
LENGTHS, TEACHERS = np.array([3, 0, 5, 2, 4]), ["a", "b", "b", "a", "a"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("vocab", [7, 60])
def test_what_is_written_is_read(tmp_path: Path, vocab: int, dtype: torch.dtype) -> None:
    """Teacher a is written as log-probs where the vocabulary is small, and as hidden states where it is not."""
    torch.manual_seed(0)
    transforms = {"a": LogitTransform(0.5, 5.0), "b": LogitTransform()}
    matrices = {name: OutputMatrix(torch.randn(64, 16, dtype=dtype), t) for name, t in transforms.items()}
    hidden = [torch.randn(length, 16, dtype=dtype) for length in LENGTHS]
    first = first_tokens(TEACHERS, LENGTHS)
    assert first.tolist() == [0, 0, 0, 3, 5]
    for name, matrix in matrices.items():
        rows = [i for i, teacher in enumerate(TEACHERS) if teacher == name]
        tokens = int(LENGTHS[rows].sum())
        writer = DistributionWriter(tmp_path, name, matrix, tokens=tokens, vocab=vocab, chunk=2)
        last_first = rows[::-1]
        places = [np.arange(first[row], first[row] + LENGTHS[row]) for row in last_first]
        writer.put(np.concatenate(places), torch.cat([hidden[row] for row in last_first]))
        assert writer.close() == min(vocab * 4, 16 * dtype.itemsize)
    assert (tmp_path / "a.safetensors").exists() == (16 * dtype.itemsize < vocab * 4)
    reader = TeacherReader(tmp_path, CPU, {"a": dtype, "b": dtype}, vocab=vocab, teachers=TEACHERS, lengths=LENGTHS)
    order = [2, 0, 1, 4]
    found = reader.rows(order)
    own = []
    for i in order:
        logits = hidden[i].float() @ matrices[TEACHERS[i]].weight_VD[:vocab].float().T
        own.append(transforms[TEACHERS[i]].apply_(logits).log_softmax(-1))
    expected = torch.cat(own)
    close = {"rtol": 0, "atol": 1e-5 if dtype == torch.float32 else 0.05}
    for part in (slice(0, 12), slice(1, 6), slice(4, 5), slice(8, 12)):
        assert torch.allclose(found(part), expected[part], **close)


@pytest.mark.parametrize("vocab", [7, 60])
def test_parts_joined_are_the_whole(tmp_path: Path, vocab: int) -> None:
    """Three parts, one of which has no token of the teacher."""
    torch.manual_seed(0)
    matrix, hidden = OutputMatrix(torch.randn(64, 16), LogitTransform(2.0)), torch.randn(7, 16)
    counts = {"0": 3, "1": 0, "2": 4}
    for name, part in {"whole": hidden, **dict(zip(counts, hidden.split(list(counts.values())), strict=True))}.items():
        (tmp_path / name).mkdir()
        writer = DistributionWriter(tmp_path / name, "a", matrix, tokens=len(part), vocab=vocab, chunk=8)
        if len(part):
            writer.put(np.arange(len(part)), part)
        size = writer.close()
    (tmp_path / "joined").mkdir()
    parts = [(tmp_path / name, count) for name, count in counts.items()]
    assert join_distributions(parts, "a", tmp_path / "joined") == size
    whole = {file.name: file.read_bytes() for file in (tmp_path / "whole").iterdir()}
    assert {file.name: file.read_bytes() for file in (tmp_path / "joined").iterdir()} == whole


def test_a_distribution_of_other_rollouts_is_refused(tmp_path: Path) -> None:
    matrix = OutputMatrix(torch.randn(8, 16), LogitTransform())
    DistributionWriter(tmp_path, "a", matrix, tokens=3, vocab=8, chunk=2).close()
    options = {"vocab": 8, "teachers": ["a", "a"], "lengths": np.array([2, 2])}
    with pytest.raises(ArtifactError, match="has 3 tokens, asked for 2:4"):
        TeacherReader(tmp_path, CPU, {"a": torch.float32}, **options).rows([1])
