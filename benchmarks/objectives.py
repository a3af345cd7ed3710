"""Memory of each objective of the head against tokens and vocabulary, and disk bytes a token of what teachers keep.

    python -m benchmarks.objectives [--out benchmarks/results]

Memory is the largest sum of bytes of tensor storages that are alive after any one operation of forward and backward:
counted from PyTorch's dispatcher, so it is exact for the tensors, the same on every machine and every device, and does
not see scratch space inside one kernel. Student's hidden states and output matrix, which are there before, are not
counted; their gradients, [T, D] and [V, D], are, and are given besides. The peer is the same objective in plain
PyTorch, on logits of all tokens.
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from fire_opd.head import DistributionWriter, TeacherReader, logprob_entropy
from fire_opd.head.logits import LogitTransform
from fire_opd.head.teacher import OutputMatrix
from fire_opd.spec import Divergence
from fire_opd.storage.manifest import library_versions

CHUNK, WIDTH, TOP_K = 64, 64, 16
TOKENS, VOCABULARIES = (256, 1024), (64, 49_152, 151_936)
OBJECTIVES = {
    "sampled token and entropy": None,
    "reverse KL": Divergence("reverse_kl"),
    "forward KL": Divergence("forward_kl"),
    "JSD": Divergence("jsd"),
    "top 16 and tail": Divergence("top_k", top_k=TOP_K),
}
MODELS = ((64, 96, torch.float32), (49_152, 576, torch.bfloat16), (151_936, 2_560, torch.bfloat16))  # V, D, dtype


class Alive(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Remembers the most bytes of storages, those of `before` left out, that were alive after an operation."""

    def __init__(self, *before: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._before = {tensor.untyped_storage()._cdata for tensor in before}
        self._seen: dict[int, tuple[StorageWeakRef, int]] = {}
        self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count after the operation."""
        out = func(*args, **(kwargs or {}))
        gone = [key for key, found in self._seen.items() if found[0].expired()]  # type: ignore[no-untyped-call]
        for key in gone:
            del self._seen[key]
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, Tensor) and (key := tensor.untyped_storage()._cdata) not in self._before:
                reference = StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]
                self._seen[key] = reference, tensor.untyped_storage().nbytes()
        self.peak = max(self.peak, sum(size for _, size in self._seen.values()))
        return out


def main() -> None:
    """Measure each objective at each size, and each kind of distribution."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    rows = [memory(name, T, V) for V in VOCABULARIES for T in TOKENS for name in OBJECTIVES]
    report: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "versions": library_versions(),
        "shape": {"chunk": CHUNK, "hidden": WIDTH, "dtype": "float32"},
        "memory": rows,
        "disk": [disk(*model) for model in MODELS],
    }
    print(json.dumps(report, indent=1))
    if arguments.out:
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "objectives.json").write_text(json.dumps(report, indent=1) + "\n")


def memory(name: str, T: int, V: int) -> dict[str, Any]:
    """Peak bytes of one objective, chunked and plain; the teacher's hidden states or log-probs are read from a file."""
    torch.manual_seed(0)
    divergence, lengths = OBJECTIVES[name], np.array([T])
    targets, matrix = torch.randint(0, V, (T,)), OutputMatrix(torch.randn(V, WIDTH) / 8, LogitTransform())
    with tempfile.TemporaryDirectory() as folder:
        writer = DistributionWriter(Path(folder), "t", matrix, tokens=T, vocab=V, chunk=CHUNK)
        writer.put(np.arange(T), torch.randn(T, WIDTH))
        writer.close()
        dtypes = {"t": torch.float32}
        reader = TeacherReader(Path(folder), "cpu", dtypes, vocab=V, teachers=["t"], lengths=lengths)
        rows = reader.rows([0])
        held = [matrix.weight_VD, *(m.weight_VD for m in reader._matrices.values())]

        def chunked(hidden_TD: Tensor, weight_VD: Tensor) -> Tensor:
            options: dict[str, Any] = {"divergence": divergence, "teacher": rows} if divergence else {}
            found = logprob_entropy(hidden_TD, weight_VD, targets, chunk=CHUNK, **options)
            return found[2].sum() if divergence else found[0].sum()

        def plain(hidden_TD: Tensor, weight_VD: Tensor) -> Tensor:
            logp_TV = (hidden_TD @ weight_VD.T).log_softmax(-1)
            if divergence is None:
                return logp_TV.gather(1, targets[:, None]).sum()
            return plain_divergence(divergence, logp_TV, rows(slice(0, T)))

        peaks = {kind: peak(head, T, V, held) for kind, head in (("chunked", chunked), ("plain", plain))}
    return {"objective": name, "tokens": T, "vocabulary": V, "gradients": 4 * WIDTH * (T + V), **peaks}


def peak(head: Callable[[Tensor, Tensor], Tensor], T: int, V: int, held: list[Tensor]) -> int:
    """Peak bytes of forward and backward."""
    leaves = torch.randn(T, WIDTH).requires_grad_(), (torch.randn(V, WIDTH) / 8).requires_grad_()
    with Alive(*leaves, *held) as alive:
        head(*leaves).backward()  # type: ignore[no-untyped-call]
    return int(alive.peak)


def plain_divergence(divergence: Divergence, logp_TV: Tensor, logq_TV: Tensor) -> Tensor:
    """As one writes it, by autograd."""
    match divergence.kind:
        case "reverse_kl":
            return (logp_TV.exp() * (logp_TV - logq_TV)).sum()
        case "forward_kl":
            return (logq_TV.exp() * (logq_TV - logp_TV)).sum()
        case "jsd":
            logm_TV = (0.5 * (logp_TV.exp() + logq_TV.exp())).log()
            sides = (logq_TV.exp() * (logq_TV - logm_TV)).sum(), (logp_TV.exp() * (logp_TV - logm_TV)).sum()
            return 0.5 * (sides[0] + sides[1])
        case "top_k":
            logq_TK, index_TK = logq_TV.topk(min(divergence.top_k, logq_TV.shape[1]))
            logp_TK = logp_TV.gather(1, index_TK)
            rest_q_T, rest_p_T = (1 - log_TK.exp().sum(1) for log_TK in (logq_TK, logp_TK))
            rest_T = rest_q_T * (rest_q_T.log() - rest_p_T.log())
            return (logq_TK.exp() * (logq_TK - logp_TK)).sum() + rest_T.sum()


def disk(V: int, D: int, dtype: torch.dtype) -> dict[str, Any]:
    """Bytes a token: of the file that a teacher of this size keeps, written here, and of each kind by its width."""
    tokens, matrix = 1000, OutputMatrix(torch.zeros(V, D, dtype=dtype), LogitTransform())
    with tempfile.TemporaryDirectory() as folder:
        writer = DistributionWriter(Path(folder), "t", matrix, tokens=tokens, vocab=V, chunk=100)
        writer.put(np.arange(tokens), torch.zeros(tokens, D, dtype=dtype))
        writer.close()
        header = 128  # of a numpy file
        kept = ((Path(folder) / "t.npy").stat().st_size - header) / tokens
        once = sum(file.stat().st_size for file in Path(folder).glob("*.safetensors"))
    by_kind = {"log-probs": 4 * V, "hidden states": D * dtype.itemsize, "top 16 and tail": TOP_K * (4 + 4)}
    return {"vocabulary": V, "hidden": D, "dtype": str(dtype).removeprefix("torch."), **by_kind} | {
        "kept": "hidden states" if once else "log-probs",
        "kept_bytes": kept,
        "output_matrix_bytes": once,
    }


if __name__ == "__main__":
    main()
