"""The trainer: one DeepSpeed engine around the policy, as one rank of one or more. The only importer of DeepSpeed.

Gradients follow a contract (torchtitan's): a loss is a sum of terms that carry their global divisor, so micro-batches,
ranks and ZeRO stages only decide where the terms are added up. DeepSpeed averages over ranks; `backward` undoes that.
"""

import gc
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Literal, cast

import torch
from torch import Tensor

from fire_opd.errors import ArtifactError, NotFiniteError
from fire_opd.head import Policy, TokenBatch, add_adapter, check_policy, load_model
from fire_opd.models import shared_vocab
from fire_opd.runtime.seeds import derive_seed
from fire_opd.spec import Device, RunSpec
from fire_opd.storage.hashing import HashedFile
from fire_opd.training.checkpoint import save_checkpoint
from fire_opd.training.pickles import refuse_code
from fire_opd.training.settings import deepspeed_config, start_deepspeed

StateName = Literal["weights", "exp_avg", "exp_avg_sq"]
_TAG = "state"
_RANK_FILES = ("mp_rank_*_model_states.pt", *["*zero_pp_rank_*_optim_states.pt"] * 3)  # by ZeRO stage


class Trainer:
    """A student in training, with its Adam moments and the number of updates it has had.

    The environment tells the rank: RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT. Except `close`, every method
    is a collective: all ranks call it, with equal arguments, and what is written to shared places rank 0 writes.
    """

    def __init__(
        self, spec: RunSpec, model_dir: str | Path, *, device: Device, deepspeed: Mapping[str, Any] | None = None
    ) -> None:
        """Load the student from `model_dir` with fresh optimiser state.

        Args:
            spec: the run.
            model_dir: model directory, or the hub id that the spec pins.
            device: "cpu" (gloo) or "cuda" (NCCL, one GPU a rank).
            deepspeed: settings of DeepSpeed's `zero_optimization` part to add, such as bucket sizes.

        Raises:
            SpecError: a combination that DeepSpeed cannot train exactly, or a family that is not computed exactly here.
        """
        self.spec, self.model_dir = spec, str(model_dir)
        self.student = spec.student.model_copy(update={"path": self.model_dir})
        self._config = deepspeed_config(spec, deepspeed or {})
        self.rank, self.world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        self._deepspeed = start_deepspeed(device)
        self._packed_on = device if spec.train.packing else None
        self.device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if device == "cuda" else torch.device("cpu")
        self.updates = 0
        self._asleep = False
        self.vocab = shared_vocab(spec.model_copy(update={"student": self.student}))
        self._build()

    def forward(self, batch: TokenBatch, **objective: Any) -> tuple[Tensor, ...]:
        """Log-prob and entropy (nat) of the batch's response tokens, differentiable.

        Temperature 1 and the real vocabulary, as in the scores: at the first update of a round the ratio r is 1.

        Args:
            batch: of one forward pass.
            objective: `divergence` and `teacher` of the head, when the method has a divergence.

        Returns:
            logprob_N, entropy_N and, with a divergence, divergence_N.
        """
        self._pristine = False
        options = {"chunk": self.spec.train.head_chunk, "vocab": self.vocab, **objective}
        result: tuple[Tensor, ...] = self._engine(batch.to(self.device), **options)
        return result

    def backward(self, loss: Tensor) -> None:
        """Add the gradient of this rank's share of the loss. Shares are summed over calls and ranks, never averaged."""
        self._engine.backward(loss * self.world_size, scale_wrt_gas=False)

    def step(self, lr: float) -> float:
        """One optimiser update from the gradients added since the last one, clipped to `train.grad_clip`.

        Returns:
            The gradient's global norm before clipping.

        Raises:
            NotFiniteError: the gradient is not finite. The state in memory is then lost; load one.
        """
        for group in self._engine.optimizer.param_groups:
            group["lr"] = lr
        self._engine.step()
        norm = self._norm if self.spec.train.zero == 0 else self._engine.get_global_grad_norm()
        norm = math.nan if norm is None or not self._engine.was_step_applied() else float(norm)
        if not math.isfinite(norm):
            raise NotFiniteError(
                f"update {self.updates}: the gradient is not finite; look for extreme advantages in the batch table, "
                "or lower train.lr"
            )
        self.updates += 1
        return norm

    def reduce(self, values: list[float], how: Literal["sum", "max"] = "sum") -> list[float]:
        """Sum or maximum over ranks, in float64."""
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        if self.world_size > 1:
            operation = torch.distributed.ReduceOp.SUM if how == "sum" else torch.distributed.ReduceOp.MAX
            torch.distributed.all_reduce(total, operation)
        reduced: list[float] = total.tolist()
        return reduced

    def full_state(self, name: StateName) -> dict[str, Tensor]:
        """The fp32 weights or a moment of Adam of what is trained, whole, by name, on each rank's CPU; for tests.

        With betas[0] = 0 the first moment after an update is the clipped gradient of that update, at every ZeRO stage.
        """
        found = {}
        for key, parameter in self._trained():
            found[key] = self._full_tensor(parameter, name).detach().to("cpu", torch.float32, copy=True)
        return found

    def partitioned_parameters(self) -> list[str]:
        """Names of the parameters of which this rank holds a part only (ZeRO 3)."""
        return [
            name
            for name, parameter in self._policy.model.named_parameters()
            if hasattr(parameter, "ds_tensor") and parameter.numel() < parameter.ds_numel
        ]

    def save_state(self, out: Path) -> None:
        """Write weights, moments and update counter into `out`, by DeepSpeed; equal training gives equal bytes.

        Of a student with an adapter, the adapter's alone. Beside each file lies its digest, for whoever commits `out`.
        """
        self._engine.save_checkpoint(
            str(out),
            tag=_TAG,
            client_state={"updates": self.updates},
            save_latest=False,
            exclude_frozen_parameters=self.adapted,
        )

    def load_state(self, directory: Path) -> None:
        """Take the state that `save_state` wrote, made with the same ZeRO stage and number of ranks.

        Raises:
            ArtifactError: there is no such state, or it belongs to another number of ranks, or it would run code.
        """
        found = len(list((directory / _TAG).glob(_RANK_FILES[self.spec.train.zero])))
        expected = self.world_size if self.spec.train.zero else 1
        if found != expected:
            raise ArtifactError(
                f"{directory}: expected the trainer state of {self.world_size} rank(s) at ZeRO {self.spec.train.zero}, "
                f"which is {expected} file(s), found {found}; run the stage that writes it with this placement"
            )
        refuse_code(directory)
        if not self._pristine:
            self._rebuild()
        self._pristine = False
        _, client_state = self._engine.load_checkpoint(str(directory), tag=_TAG, load_module_strict=not self.adapted)
        self.updates = client_state["updates"]

    def save_checkpoint(self, out: Path) -> None:
        """Write the student into `out`: see `checkpoint.save_checkpoint`."""
        save_checkpoint(self, out)

    def model_state(self) -> dict[str, Tensor] | None:
        """The student's state dict in its own dtype, whole, on rank 0; None on the other ranks.

        Of a student with an adapter, the adapter's tensors are enough.
        """
        if self.spec.train.zero == 3:
            state = self._engine._zero3_consolidated_16bit_state_dict(exclude_frozen_parameters=self.adapted)
        else:
            state = self._policy.state_dict()
        return {name.removeprefix("model."): tensor for name, tensor in state.items()} if self.rank == 0 else None

    @property
    def model(self) -> Any:
        """The Hugging Face model; its parameters may be partitioned."""
        return self._policy.model

    @property
    def adapted(self) -> bool:
        """Whether an adapter is trained, and not the weights."""
        return self.spec.student.adapted

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.world_size > 1:
            torch.distributed.barrier()

    def sleep(self) -> None:
        """Move weights and optimiser state to host memory, until `wake`; ZeRO 1 and 2."""
        self._engine.offload_states()
        self._asleep = True

    def wake(self) -> None:
        """Take them back; nothing happens to a trainer that is awake."""
        if self._asleep:
            self._engine.reload_states()
            self._asleep = False

    def close(self) -> None:
        """Leave the process group; this trainer is of no further use."""
        if torch.distributed.is_initialized():
            self._engine.destroy()
            torch.distributed.destroy_process_group()

    def _build(self) -> None:
        from deepspeed.runtime.zero.partition_parameters import Init

        Init.param_id = 0  # a counter of this process; ZeRO 3 writes it into its states
        train = self.spec.train
        model = load_model(self.student, packed_on=self._packed_on)  # on the CPU: DeepSpeed places or partitions it
        if self.adapted:
            add_adapter(model, self.spec.student.adapter, derive_seed(self.spec.seed, "adapter"))
        if train.gradient_checkpointing:
            _checkpoint_activations(model)
        self._policy = Policy(model)
        trained = [parameter for _, parameter in self._trained()]
        optimizer = torch.optim.AdamW(trained, lr=train.lr, betas=train.betas, weight_decay=train.weight_decay)
        self._engine, *_ = self._deepspeed.initialize(
            model=self._policy, optimizer=optimizer, config=self._config, dist_init_required=False
        )
        self._engine.checkpoint_engine.save = _save_by_stream
        self._pristine, self._norm = True, math.nan
        if train.zero == 0:
            optimizer.register_step_pre_hook(self._clip)
        check_policy(self._policy, self.model_dir, self.student.dtype, self.vocab, packing=train.packing)
        if train.zero == 3:
            self._engine.empty_partition_cache()  # outside of the engine's own forward, gathered parameters stay whole

    def _rebuild(self) -> None:
        """A fresh engine: a used one may hold gradients of a round that failed, and takes no ZeRO 3 state."""
        self._engine.destroy()
        del self._engine, self._policy
        gc.collect()
        self._build()

    def _trained(self) -> list[tuple[str, torch.nn.Parameter]]:
        return [(name, given) for name, given in self._policy.model.named_parameters() if given.requires_grad]

    def _clip(self, *_: Any) -> None:
        """At ZeRO 0: clip the reduced gradients, and remember their norm."""
        self._norm = float(torch.nn.utils.clip_grad_norm_(self._policy.parameters(), self.spec.train.grad_clip))

    def _full_tensor(self, parameter: torch.nn.Parameter, name: StateName) -> Tensor:
        from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

        found: Tensor
        if self.spec.train.zero == 0:
            found = parameter if name == "weights" else self._engine.optimizer.state[parameter][name]
        elif name == "weights":
            found = safe_get_full_fp32_param(parameter)
        else:
            found = safe_get_full_optimizer_state(parameter, name)
        return found


def _save_by_stream(state_dict: Any, path: str) -> None:  # DeepSpeed calls it by these names
    """Save through an open file: given a path, PyTorch writes other bytes where the path is not ASCII."""
    with HashedFile(Path(path)) as file:
        torch.save(state_dict, cast("IO[bytes]", file))


def _checkpoint_activations(model: Any) -> None:
    """Recompute activations in backward; transformers does so in layers in training mode. Dropout is off anyway."""
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    for module in model.modules():
        if getattr(module, "gradient_checkpointing", False):
            module.training = True
