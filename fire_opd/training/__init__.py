"""One DeepSpeed round on the batch table, and the state and checkpoints that it leaves."""

from fire_opd.training.checkpoint import save_checkpoint
from fire_opd.training.engine import Trainer
from fire_opd.training.round import train_round
from fire_opd.training.schedule import learning_rate

__all__ = ["Trainer", "learning_rate", "save_checkpoint", "train_round"]
