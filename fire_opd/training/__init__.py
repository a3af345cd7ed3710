"""One DeepSpeed round on the batch table, and the state and checkpoints that it leaves."""

from fire_opd.training.checkpoint import save_checkpoint
from fire_opd.training.engine import Trainer
from fire_opd.training.gradient import round_gradient
from fire_opd.training.merge import whole_model
from fire_opd.training.objective import RoundTables
from fire_opd.training.round import train_round, untrained
from fire_opd.training.schedule import learning_rate

__all__ = [
    "RoundTables",
    "Trainer",
    "learning_rate",
    "round_gradient",
    "save_checkpoint",
    "train_round",
    "untrained",
    "whole_model",
]
