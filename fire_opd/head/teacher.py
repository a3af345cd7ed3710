"""The teacher's whole distribution at each response token, kept in a file that training maps into memory.

Two forms, both exact: the log-probs themselves, V numbers a token; or the last hidden states, D numbers a token, from
which training makes the log-probs again, a chunk at a time, with the teacher's output matrix. The smaller one is kept:
a vocabulary of 64 makes 256 bytes a token; 151,936 would make 608 kB, where 2,560 hidden values in bfloat16 make 5 kB.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from fire_opd.errors import ArtifactError
from fire_opd.head.logits import LogitTransform

_BITS = {torch.bfloat16: torch.int16, torch.float16: torch.int16}  # numpy knows no bfloat16


@dataclass(frozen=True)
class OutputMatrix:
    """A model's output matrix [V, D], and what it does to the products."""

    weight_VD: Tensor
    transform: LogitTransform

    def logprobs(self, hidden_ND: Tensor, vocab: int) -> Tensor:
        """Log-probs [N, vocab] over the first `vocab` ids, fp32."""
        weight_VD = self.weight_VD[:vocab]
        dtype = torch.promote_types(hidden_ND.dtype, torch.float32)
        return self.transform.logits(hidden_ND, weight_VD, dtype).log_softmax(-1)

    def keeps_hidden(self, vocab: int) -> bool:
        """Whether hidden states are smaller than log-probs."""
        return self.weight_VD.shape[1] * self.weight_VD.element_size() < vocab * 4

    def save(self, file: Path) -> None:
        """Write it for `load`."""
        about = {"scale": self.transform.scale, "soft_cap": self.transform.soft_cap}
        save_file({"weight": self.weight_VD.cpu().contiguous()}, file, {"transform": json.dumps(about)})

    @classmethod
    def load(cls, file: Path, device: torch.device | str) -> "OutputMatrix":
        """Read what `save` wrote."""
        with safe_open(file, "pt", str(device)) as opened:
            return cls(opened.get_tensor("weight"), LogitTransform(**json.loads(opened.metadata()["transform"])))


_Part = tuple[NDArray[Any], torch.dtype, OutputMatrix | None]  # a trajectory's tokens in the file, and what they are


def first_tokens(teachers: Sequence[str], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each trajectory begins in the file of its teacher: those of one teacher lie end to end, in their order."""
    names, first_B = np.array(teachers, dtype=object), np.zeros(len(lengths), dtype=np.int64)
    for name in set(teachers):
        rows = names == name
        first_B[rows] = np.cumsum(lengths[rows]) - lengths[rows]
    return first_B


class DistributionWriter:
    """Writes one teacher's distribution, token by token in any order.

    Args:
        folder: to write into.
        teacher: its name.
        matrix: its output matrix; None where it is elsewhere, and `put` gets log-probs.
        tokens: response tokens of its trajectories.
        vocab: ids that student and teacher share.
        chunk: tokens whose logits exist at one time.
    """

    def __init__(
        self, folder: Path, teacher: str, matrix: OutputMatrix | None, *, tokens: int, vocab: int, chunk: int
    ) -> None:
        self._vocab, self._chunk = vocab, chunk
        self._matrix = matrix  # makes log-probs of what `put` gets; None: that is kept as it comes
        kept, width = torch.float32, vocab
        if matrix and matrix.keeps_hidden(vocab):
            kept, width, self._matrix = matrix.weight_VD.dtype, matrix.weight_VD.shape[1], None
            matrix.save(folder / f"{teacher}.safetensors")
        self._bits = _BITS.get(kept, kept)
        number = torch.empty(0, dtype=self._bits).numpy().dtype
        self._file = open_memmap(  # type: ignore[no-untyped-call]
            folder / f"{teacher}.npy", "w+", number, (max(tokens, 1), width)
        )

    def put(self, places_N: NDArray[np.int64], given: Tensor) -> None:
        """Write each token to its place in the file: hidden states [N, D], or log-probs [N, V] without a matrix."""
        for begin in range(0, len(places_N), self._chunk):
            part = slice(begin, begin + self._chunk)
            values = self._matrix.logprobs(given[part], self._vocab) if self._matrix else given[part]
            self._file[places_N[part]] = values.view(self._bits).cpu().numpy()

    def close(self) -> int:
        """Everything is on its way to the disk; returns the bytes a token."""
        self._file.flush()
        return int(self._file.dtype.itemsize * self._file.shape[1])


def join_distributions(parts: Sequence[tuple[Path, int]], teacher: str, out: Path) -> int:
    """Lay what writers wrote in several folders end to end, as one of them would have written it.

    Args:
        parts: each folder with the tokens of this teacher in it.
        teacher: its name.
        out: folder to write into.

    Returns:
        The bytes a token.
    """
    files = [np.load(folder / f"{teacher}.npy", mmap_mode="r") for folder, _ in parts]
    number, width = files[0].dtype, files[0].shape[1]
    tokens = sum(count for _, count in parts)
    whole = open_memmap(out / f"{teacher}.npy", "w+", number, (max(tokens, 1), width))  # type: ignore[no-untyped-call]
    begin = 0
    for file, (_, count) in zip(files, parts, strict=True):
        whole[begin : begin + count] = file[:count]
        begin += count
    whole.flush()
    matrix = parts[0][0] / f"{teacher}.safetensors"
    if matrix.exists():
        shutil.copyfile(matrix, out / matrix.name)
    return int(number.itemsize * width)


class TeacherReader:
    """The distributions that `DistributionWriter` wrote, of all teachers, for the trajectories of a round.

    Args:
        folder: with a file a teacher.
        device: where they are compared.
        dtypes: precision of each teacher by name.
        vocab: ids that student and teachers share.
        teachers: of each trajectory.
        lengths: response tokens of each trajectory.
    """

    def __init__(
        self,
        folder: Path,
        device: torch.device | str,
        dtypes: dict[str, torch.dtype],
        *,
        vocab: int,
        teachers: Sequence[str],
        lengths: NDArray[np.int64],
    ) -> None:
        self._device, self._dtypes, self._vocab = device, dtypes, vocab
        self._teachers, first_B = teachers, first_tokens(teachers, lengths)
        self._spans = list(zip(first_B.tolist(), (first_B + lengths).tolist(), strict=True))
        self._files = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in dtypes}
        found = {name: folder / f"{name}.safetensors" for name in dtypes}
        self._matrices = {name: OutputMatrix.load(file, device) for name, file in found.items() if file.exists()}

    def rows(self, rows: Sequence[int]) -> "TeacherRows":
        """Log-probs of a micro-batch's tokens: of these trajectories, in this order.

        Raises:
            ArtifactError: a file is too short for them.
        """
        parts: list[_Part] = []
        for row in rows:
            name, (start, end) = self._teachers[row], self._spans[row]
            file, matrix = self._files[name], self._matrices.get(name)
            if end > len(file):
                raise ArtifactError(
                    f"the distribution of teacher {name} has {len(file)} tokens, asked for {start}:{end}"
                )
            parts.append((file[start:end], self._dtypes[name] if matrix else torch.float32, matrix))
        return TeacherRows(parts, self._vocab, self._device)


class TeacherRows:
    """Called with a slice of a micro-batch's tokens, gives the teachers' log-probs [C, V].

    Only that slice is read from the file and is on the device.
    """

    def __init__(self, parts: Sequence[_Part], vocab: int, device: torch.device | str) -> None:
        self._parts, self._vocab, self._device = parts, vocab, device

    def __call__(self, part: slice) -> Tensor:
        """Log-probs of the tokens of `part`, in the order of the batch."""
        found, begin = [], 0
        for stored, dtype, matrix in self._parts:
            low, high = max(part.start - begin, 0), min(part.stop - begin, len(stored))
            if low < high:
                piece = torch.from_numpy(np.array(stored[low:high])).view(dtype).to(self._device)
                found.append(matrix.logprobs(piece, self._vocab) if matrix else piece)
            begin += len(stored)
        return torch.cat(found)
