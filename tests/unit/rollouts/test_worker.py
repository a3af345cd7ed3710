"""What a vLLM worker holds is compared with its own part of a checkpoint, and what did not change shows nothing."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from fire_opd.rollouts.worker import compare, same_tensors

EMBEDDING, PROJECTION, NORM = "model.embed_tokens.weight", "model.layers.0.mlp.down_proj.weight", "model.norm.weight"
FUSED = "model.layers.0.self_attn.q_proj.weight"


def checkpoint(directory: Path, seed: int, **changes: Tensor) -> tuple[Path, dict[str, Tensor]]:
    torch.manual_seed(seed)
    shapes = {EMBEDDING: (7, 4), PROJECTION: (4, 6), NORM: (4,), FUSED: (4, 4)}
    tensors = {name: torch.randn(shape) for name, shape in shapes.items()} | changes
    directory.mkdir()
    save_file(tensors, directory / "model.safetensors")
    return directory, tensors


def shard(tensors: dict[str, Tensor], rank: int) -> dict[str, Tensor]:
    """What rank `rank` of 2 holds: 4 of 7 rows, padded, and 3 of 6 inputs."""
    rows = torch.cat([tensors[EMBEDDING], torch.zeros(1, 4)])[4 * rank : 4 * rank + 4]
    return {EMBEDDING: rows, PROJECTION: tensors[PROJECTION][:, 3 * rank : 3 * rank + 3], NORM: tensors[NORM]}


@pytest.mark.parametrize("rank", [0, 1])
def test_each_rank_compares_its_own_shard(tmp_path: Path, rank: int) -> None:
    (old, before), (new, after) = checkpoint(tmp_path / "old", 0), checkpoint(tmp_path / "new", 1)
    found = compare(shard(after, rank), new, old, rank, 2)
    assert found == {"equal": [EMBEDDING, PROJECTION, NORM], "different": [], "changed": [EMBEDDING, PROJECTION, NORM]}
    assert compare(shard(before, rank), new, old, rank, 2)["equal"] == []
    assert compare(shard(after, 1 - rank), new, old, rank, 2)["different"] == [EMBEDDING, PROJECTION]


@pytest.mark.parametrize("stale", [EMBEDDING, PROJECTION])
def test_one_stale_shard_is_found(tmp_path: Path, stale: str) -> None:
    (old, before), (new, after) = checkpoint(tmp_path / "old", 0), checkpoint(tmp_path / "new", 1)
    held = shard(after, 1) | {stale: shard(before, 1)[stale]}
    assert compare(held, new, old, 1, 2)["different"] == [stale]


def test_what_is_held_packed_is_left_out(tmp_path: Path) -> None:
    new, after = checkpoint(tmp_path / "new", 0)
    held = {EMBEDDING: after[EMBEDDING], PROJECTION: torch.empty(0), NORM: after[NORM]}
    assert compare(held, new, None, 0, 1) == {"equal": [EMBEDDING, NORM], "different": [], "changed": []}


def test_what_did_not_change_shows_nothing(tmp_path: Path) -> None:
    (old, before), (new, _) = (
        checkpoint(tmp_path / "old", 0),
        checkpoint(tmp_path / "new", 0, **{FUSED: torch.ones(4, 4)}),
    )
    assert compare(before, new, old, 0, 1)["changed"] == []
    assert not same_tensors(new, old)
    assert same_tensors(old, old)
