import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from fire_opd.spec import RunSpec
from fire_opd.training.settings import deepspeed_config, quote_library_path, remove_dead_locks

HOLD = "import os, sys; os.open(sys.argv[1], os.O_CREAT | os.O_EXCL); print('held', flush=True); sys.stdin.read()"


def test_only_the_lock_of_a_dead_owner_is_removed(tmp_path: Path) -> None:
    dead, live = tmp_path / "one" / "lock", tmp_path / "two" / "lock"
    for lock in (dead, live):
        lock.parent.mkdir()
    dead.touch()
    owner = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(live)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    owner.stdout.readline()
    assert remove_dead_locks(tmp_path) == [dead]
    assert live.exists()
    owner.communicate("")
    assert remove_dead_locks(tmp_path) == [live]
    assert not live.exists()


def test_bfloat16_needs_a_stage_that_adds_gradients_in_fp32(lab: Any) -> None:
    values = lab.spec("tied")
    values["student"]["dtype"] = "bfloat16"
    with pytest.raises(ValidationError, match=r"set train\.zero to 1, 2 or 3"):
        RunSpec.model_validate(values)
    values["train"]["zero"] = 2
    config = deepspeed_config(RunSpec.model_validate(values), {})
    assert (config["bf16"]["enabled"], config["data_types"]["grad_accum_dtype"]) == (True, "fp32")


def test_the_configuration_that_states_carry_holds_no_path(lab: Any) -> None:
    for zero in range(4):
        spec = RunSpec.model_validate(lab.spec("tied", train__zero=zero))
        assert "/" not in json.dumps(deepspeed_config(spec, {}))


def test_a_library_path_with_spaces_is_quoted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.utils import cpp_extension

    monkeypatch.setattr(cpp_extension, "TORCH_LIB_PATH", "/a b/é/lib")
    quote_library_path()
    quote_library_path()
    assert cpp_extension.TORCH_LIB_PATH == "'/a b/é/lib'"
