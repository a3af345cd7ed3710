"""A run folder: the same spec resumes, another is refused, one process at a time, enough disk."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.numpy import save_file

from fire_opd.errors import RunError
from fire_opd.spec import FREE, MethodSpec, RunSpec, StudentSpec
from fire_opd.spec.model import StorageSpec
from fire_opd.stages import STAGES
from fire_opd.storage import Run
from fire_opd.storage.disks import disks_of
from fire_opd.storage.footprint import footprint

SPEC = RunSpec.model_validate(
    {
        "student": {"path": "/m/s"},
        "teachers": {"t": {"path": "/m/t"}},
        "prompts": {"path": "/p.jsonl"},
        "evaluation": {"path": "/e.jsonl"},
    }
)


def test_the_same_spec_resumes_and_another_is_shown(tmp_path: Path) -> None:
    Run.create(tmp_path / "run", SPEC)
    assert Run.create(tmp_path / "run", SPEC).spec == Run.open(tmp_path / "run").spec == SPEC
    other = SPEC.model_copy(update={"filter": SPEC.filter.model_copy(update={"percentile": 10})})
    with pytest.raises(RunError, match=r"filter\.percentile: the run has 20, you gave 10"):
        Run.create(tmp_path / "run", other)


def test_a_run_from_before_a_field_resumes_where_the_field_has_its_default(tmp_path: Path) -> None:
    Run.create(tmp_path / "run", SPEC)
    file = tmp_path / "run" / "spec.yaml"
    known = yaml.safe_load(file.read_text())
    del known["loggers"], known["placement"]["sampler"]["replicas"]
    file.write_text(yaml.safe_dump(known))
    Run.create(tmp_path / "run", SPEC)
    other = SPEC.model_copy(update={"seed": 7})
    with pytest.raises(RunError, match="seed: the run has 0, you gave 7"):
        Run.create(tmp_path / "run", other)


CHANGES = (
    ("rules.bounds", {"reverse_kl": {"above": 5.0}}),
    ("scoring.max_mismatch", 0.5),
    ("placement.sampler.memory", 0.2),
    ("placement.trainer.mode", "cold"),
    ("placement.tick_deadline", 600),
    ("loggers.project", "mine"),
)


@pytest.mark.parametrize(("field", "value"), CHANGES, ids=[field for field, _ in CHANGES])
def test_what_decides_no_result_may_change(tmp_path: Path, field: str, value: object) -> None:
    """A run that a rule stopped, or whose engine was too large, goes on with the field changed that its error names."""
    Run.create(tmp_path / "run", SPEC)
    other, told = changed(field, value), list[str]()
    assert Run.create(tmp_path / "run", other, told.append).spec == other
    assert Run.open(tmp_path / "run").spec == other
    assert all(line.startswith(f"changed {field}") for line in told)
    assert told
    assert Run.create(tmp_path / "run", SPEC).spec == SPEC, "and back"


def test_a_bound_that_skips_rounds_decides_results(tmp_path: Path) -> None:
    Run.create(tmp_path / "run", SPEC)
    with pytest.raises(RunError, match=r"in a run only rules\.bounds, .* may change:\n  rules\.bounds"):
        Run.create(tmp_path / "run", changed("rules.bounds", {"reverse_kl": {"above": 5.0, "action": "skip_round"}}))


def test_no_stage_reads_a_field_that_may_change() -> None:
    """But for bounds, of which `rules.of_select` and `rules.of_train` are what a stage reads."""
    for stage in STAGES.values():
        for param in stage.params:
            assert not [field for field in FREE if f"{field}.".startswith(f"{param}.") or param.startswith(f"{field}.")]


def test_a_run_at_work_keeps_its_settings(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", SPEC)
    code = (
        "import sys, time; from pathlib import Path; from fire_opd.storage import Run\n"
        f"with Run.open(Path({str(run.folder)!r})).held(): print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    holder.stdout.readline()
    with pytest.raises(RunError, match="in use"):
        Run.create(run.folder, changed("scoring.max_mismatch", 0.5))
    assert Run.open(run.folder).spec == SPEC
    holder.communicate("")


def changed(field: str, value: object) -> RunSpec:
    """The spec with another value of a dotted field."""
    values = SPEC.model_dump()
    *parts, name = field.split(".")
    part = values
    for key in parts:
        part = part[key]
    part[name] = value
    return RunSpec.model_validate(values)


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(RunError, match="not empty"):
        Run.create(tmp_path, SPEC)
    with pytest.raises(RunError, match="not a run folder"):
        Run.open(tmp_path)


def test_a_run_is_driven_by_one_process(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", SPEC)
    code = (
        "import sys, time; from pathlib import Path; from fire_opd.storage import Run\n"
        f"with Run.open(Path({str(run.folder)!r})).held(): print('held', flush=True); time.sleep(1000)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    holder.stdout.readline()
    with pytest.raises(RunError, match=f"in use by process {holder.pid}"), run.held():
        pass
    holder.kill()
    holder.wait()
    with run.held():
        pass


def test_too_little_disk_is_said_before_the_start(tmp_path: Path) -> None:
    (tmp_path / "student").mkdir()
    with (tmp_path / "student" / "model.safetensors").open("wb") as file:
        file.truncate(10 * 2**40)  # sparse
    student = SPEC.student.model_copy(update={"path": str(tmp_path / "student")})
    run = Run.create(tmp_path / "run", SPEC.model_copy(update={"student": student}))
    with pytest.raises(RunError, match=r"may need \d+.\d GiB for the run's folder and .*raise storage.state_every"):
        run.check_disk()


def test_what_is_needed_is_counted_by_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cache and store too where the run is recorded; of a run that goes on, only the rounds to come."""
    monkeypatch.setenv("FIRE_OPD_STATE", str(tmp_path / "state"))
    found = footprint(SPEC)
    (plain,) = disks_of(tmp_path / "run", found, recorded=False)
    assert (plain.places, plain.needed) == (("the run's folder",), found.run)
    (same,) = disks_of(tmp_path / "run", found, recorded=True)
    assert (same.places, same.needed) == (
        ("the run's folder", "the cache", "the store"),
        found.run + 2 * found.recorded,
    )
    monkeypatch.setenv("FIRE_OPD_STORE", "s3://bucket")
    (half,) = disks_of(tmp_path / "run", found, recorded=True, left=0.5)
    assert half.needed == round(found.run / 2) + round(found.recorded / 2)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as memory:
        monkeypatch.setenv("FIRE_OPD_STATE", memory)
        places = [disk.places for disk in disks_of(tmp_path, found, recorded=True)]
    assert places == [("the run's folder",), ("the cache",)]


def test_states_that_are_not_written_need_no_disk(tmp_path: Path) -> None:
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.truncate(1 << 30)
    spec = SPEC.model_copy(update={"student": SPEC.student.model_copy(update={"path": str(tmp_path)})})
    sparse = spec.model_copy(update={"storage": StorageSpec(state_every=20)})
    assert footprint(spec).states_written == 166
    assert footprint(sparse).states_written == 10  # rounds 0, 20, … 160, and 165
    assert footprint(spec).recorded - footprint(sparse).recorded == 156 * 8 << 30
    assert footprint(spec).run == footprint(sparse).run  # two are kept at a time


def test_an_adapter_needs_less_disk(tmp_path: Path) -> None:
    save_file({"q_proj": np.zeros((300, 200), np.float32), "norm": np.zeros(9, np.float32)}, tmp_path / "m.safetensors")
    needed = []
    for adapter in ({}, {"rank": 2}):
        student = StudentSpec(path=str(tmp_path), adapter=adapter)
        needed.append(footprint(SPEC.model_copy(update={"student": student})).run)
    file, adapted = (tmp_path / "m.safetensors").stat().st_size, 4 * 2 * (300 + 200)
    assert needed[0] - needed[1] == (SPEC.rounds.count + 1 + 2 * 8) * (file - adapted)


@pytest.mark.parametrize(("hidden", "vocab", "a_token"), [(96, 64, 192), (200, 64, 256), (2560, 151_936, 5120)])
def test_the_teachers_distributions_are_counted(tmp_path: Path, hidden: int, vocab: int, a_token: int) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"hidden_size": hidden, "vocab_size": vocab}))
    teachers = {name: teacher.model_copy(update={"path": str(tmp_path)}) for name, teacher in SPEC.teachers.items()}
    plain = SPEC.model_copy(update={"teachers": teachers})
    whole = plain.model_copy(update={"method": MethodSpec.model_validate({"name": "fire_kl"})})
    tokens = SPEC.rounds.rollouts * min(SPEC.sampling.max_tokens, 2048)
    assert footprint(whole).run - footprint(plain).run == tokens * a_token
    cut = whole.model_copy(update={"rounds": SPEC.rounds.model_copy(update={"chunk": 16})})
    assert footprint(cut).run - footprint(plain).run == 2 * tokens * a_token  # of the chunks, and joined
    sparse = whole.model_copy(update={"storage": StorageSpec(state_every=4)})  # training again needs them
    assert footprint(sparse).run - footprint(plain).run == 4 * tokens * a_token
