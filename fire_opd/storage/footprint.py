"""How much a run writes, before it starts: upper estimates from its spec and the headers of its student."""

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from fire_opd.spec import ModelSpec, RunSpec

_TABLES = 40  # bytes a token of rollouts, scores and batch, before compression
_LONGEST = 2048  # tokens that count of a response: few are as long as they may be


@dataclass(frozen=True)
class Footprint:
    """Bytes. A hub id that was not downloaded yet counts as nothing."""

    rounds: int
    checkpoint: int  # one
    trainer_state: int  # one
    tables: int  # rollouts, scores and batch of a round
    distribution: int  # the teachers', of the rounds since the trainer state was written; it goes with the next one
    states_written: int
    states_kept: int

    @property
    def run(self) -> int:
        """In the run's folder, at its largest. Round 0 has a checkpoint too."""
        kept = (self.rounds + 1) * (self.checkpoint + self.tables) + self.states_kept * self.trainer_state
        return kept + self.distribution

    @property
    def recorded(self) -> int:
        """In the cache on this machine, and again in the store, when the run is recorded and nothing is collected."""
        return (self.rounds + 1) * (self.checkpoint + self.tables) + self.states_written * self.trainer_state


def footprint(spec: RunSpec) -> Footprint:
    """What a run of this spec writes."""
    files, rank = list(Path(spec.student.path).glob("*.safetensors")), spec.student.adapter.rank
    checkpoint = sum(_adapter_bytes(file, rank) if rank else file.stat().st_size for file in files)
    tokens = spec.rounds.rollouts * min(spec.sampling.max_tokens, _LONGEST)
    sizes = [_distribution_bytes(model, name in spec.placement.servers) for name, model in spec.teachers.items()]
    distribution = tokens * max(sizes) if spec.method.divergence else 0
    states = 1 + len(spec.written_states or range(spec.rounds.count))
    kept = min(spec.storage.state_every, spec.rounds.count) + bool(spec.rounds.chunk)  # those of chunks, until joined
    return Footprint(
        rounds=spec.rounds.count,
        checkpoint=checkpoint,
        trainer_state=8 * checkpoint,  # weights and two moments in fp32 beside at most 2-byte weights
        tables=tokens * _TABLES,
        distribution=distribution * kept,
        states_written=states,
        states_kept=states if spec.storage.trainer_states == "all" else 2,
    )


def _adapter_bytes(file: Path, rank: int) -> int:
    """Of an adapter on every matrix in a file, in fp32; 0 where it is damaged, which the checks of a start name."""
    shapes: list[list[int]] = []
    with contextlib.suppress(SafetensorError, OSError), safe_open(file, framework="numpy") as opened:
        names = opened.keys()
        shapes = [opened.get_slice(name).get_shape() for name in names]
    return sum(4 * rank * sum(shape) for shape in shapes if len(shape) == 2)


def _distribution_bytes(teacher: ModelSpec, served: bool) -> int:
    """A token's whole distribution as it is kept (head/teacher.py); 0 where the config is not here or says nothing."""
    with contextlib.suppress(OSError, ValueError, AttributeError, TypeError):
        config = json.loads((Path(teacher.path) / "config.json").read_text())
        config = config.get("text_config") or config
        width, vocab = int(config.get("hidden_size") or 0), int(config.get("vocab_size") or 0)
        hidden = width * (4 if teacher.dtype == "float32" else 2)  # which a server does not tell
        return vocab * 4 if served else min(hidden, vocab * 4)
    return 0
