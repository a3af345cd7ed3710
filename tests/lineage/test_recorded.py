"""A run by name is recorded as it goes: to DVC as if `dvc repro` had run it, and back from the store alone."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from fire_opd.spec import dump_spec
from fire_opd.storage import open_store
from tests.conftest import Assets, digests
from tests.lineage.conftest import Machine, make_machine


def test_dvc_and_git_find_nothing_to_do(machine: Machine, first: str) -> None:
    assert "up to date" in machine.dvc(first, "status")
    assert "up to date" in machine.dvc(first, "repro", "--dry")
    assert "in sync" in machine.dvc(first, "status", "--cloud")
    assert machine.dvc(first, "metrics", "show")
    workspace = machine.root / "runs" / first
    assert not (workspace / "dvc.lock").read_text().count(str(machine.root))
    assert "# not committed" in (workspace / "flows" / "distill.py").read_text()


def test_the_users_checkout_is_left_alone(machine: Machine, first: str) -> None:
    assert machine.git("branch", "--show-current").strip() == "main"
    assert machine.git("status", "--porcelain").split() == ["M", "flows/distill.py"]
    assert f"runs/{first}" in machine.git("branch", "--list", "--all")


def test_it_comes_back_from_the_store_alone(machine: Machine, first: str, tmp_path: Path) -> None:
    other = make_machine(tmp_path, machine.store)
    output = other.fire_opd("reproduce", first)
    assert "all digests are equal" in output
    assert digests(other.run(f"{first}-reproduced").folder) == digests(machine.run(first).folder)
    assert "up to date" in other.dvc(f"{first}-reproduced", "status")
    assert other.fire_opd("verify", f"{first}-reproduced").endswith("0 problem(s)\n")


@pytest.mark.full
@pytest.mark.timeout(2700)
def test_it_is_computed_again_byte_for_byte(machine: Machine, first: str, tmp_path: Path) -> None:
    other = make_machine(tmp_path, machine.store)
    assert "all digests are equal" in other.fire_opd("reproduce", first, "--recompute")


@pytest.fixture(scope="module")
def second(machine: Machine, first: str, assets: Assets) -> tuple[str, str]:
    """A run that differs in the filter, and what it printed."""
    return "second", machine.demo(assets, "second", "filter.percentile=10")


def test_what_did_not_change_is_reused(machine: Machine, first: str, second: tuple[str, str]) -> None:
    output = second[1]
    for reused in ("baseline-m of round 0", "evaluate of round 0", "rollout of round 1", "score of round 1"):
        assert f"{reused}: from the cache, made by run {first}" in output
    assert "select of round 1: from the cache" not in output
    one, two = digests(machine.run(first).folder), digests(machine.run("second").folder)
    same = {name for name in one if one[name] == two[name]}
    assert {"rounds/1/rollouts", "rounds/1/scores", "prompts"} <= same
    assert not {name for name in same if name.startswith(("rounds/1/batch", "rounds/1/checkpoint", "rounds/2"))}


@pytest.mark.long
def test_a_deployment_records(machine: Machine, first: str, assets: Assets, prefect_api: str) -> None:
    spec = machine.root / "spec.yaml"
    spec.write_text(dump_spec(assets.spec()))
    code = (
        "import sys; from flows.distill import distill; from flows.forms import SpecForm\n"
        "distill(spec=SpecForm(spec_file=sys.argv[1]), run='by-form')"
    )
    env = {**machine.env, "PREFECT_API_URL": prefect_api, "PREFECT_HOME": str(machine.root / "prefect")}
    subprocess.run([sys.executable, "-c", code, str(spec)], env=env, cwd=machine.checkout, check=True, timeout=900)
    assert "up to date" in machine.dvc("by-form", "status")
    assert stages(machine, "by-form") == stages(machine, first)


def stages(machine: Machine, name: str) -> dict[str, object]:
    """What DVC recorded of each stage, but of the report, which tells how long they took."""
    locked = yaml.safe_load((machine.root / "runs" / name / "dvc.lock").read_text())["stages"]
    return {stage: recorded for stage, recorded in locked.items() if stage != "report"}


@pytest.mark.long
def test_two_runs_record_at_once(machine: Machine, first: str, assets: Assets) -> None:
    """Equal to the first one, so that all comes from the cache, and under other names."""
    started = [machine.start(*machine.demo_command(assets, name)) for name in ("third", "fourth")]
    for process in started:
        output, _ = process.communicate(timeout=900)
        assert process.returncode == 0, output
    for name in ("third", "fourth"):
        assert digests(machine.run(name).folder) == digests(machine.run(first).folder)
        assert "up to date" in machine.dvc(name, "status")
        assert stages(machine, name) == stages(machine, first)
    listed = machine.fire_opd("runs")
    assert all(name in listed for name in (first, "third", "fourth"))


def test_a_run_is_explained(machine: Machine, first: str) -> None:
    inputs = json.loads((machine.root / "runs" / first / "inputs.json").read_text())
    explained = machine.fire_opd("explain", str(machine.run(first).path("rounds/2/checkpoint")))
    assert all(digest in explained for digest in inputs.values())
    assert f"rounds/2/checkpoint of run {first}" in explained
    assert "kept 80% of 64" in explained
    assert explained.splitlines()[1:] == machine.fire_opd("explain", first).splitlines()[1:]
    found = json.loads(machine.fire_opd("explain", first, "--json"))
    assert (found["directory"], found["run"]["name"]) == ("rounds/2/checkpoint", first)
    assert (found["student"], found["prompts"]["digest"]) == (inputs["student.path"], inputs["prompts.path"])
    assert [(part["round"], part["keep_ratio"]) for part in found["rounds"]] == [(1, 51 / 64), (2, 51 / 64)]


def test_runs_are_compared(machine: Machine, first: str, second: tuple[str, str]) -> None:
    compared = machine.fire_opd("diff", first, second[0])
    assert "filter.percentile: 20 → 10" in compared
    assert "inputs: the same" in compared


def test_at_its_end_the_same_command_starts_nothing(machine: Machine, first: str, assets: Assets) -> None:
    output = machine.demo(assets, first)
    assert f"run {first} is finished and recorded: nothing to do" in output
    assert "accuracy on held-out prompts" in output
    assert "Prefect" not in output


@pytest.mark.long
def test_a_record_that_was_lost_is_written_again(machine: Machine, first: str, assets: Assets) -> None:
    open_store(machine.store).delete(f"runs/{first}/record.json")
    assert "recorded the end of the run" in machine.demo(assets, first)
    assert machine.fire_opd("verify", first, "--remote").endswith("0 problem(s)\n")


def test_another_spec_under_the_same_name_is_refused(machine: Machine, first: str, assets: Assets) -> None:
    command = machine.demo_command(assets, first, "seed=7")
    output = machine.fire_opd(*command, status=1)
    assert "seed: the run has 0, you gave 7" in output


def test_a_tree_without_git_is_told_so(machine: Machine, assets: Assets, tmp_path: Path) -> None:
    bare = make_machine(tmp_path, str(tmp_path / "store"))
    (bare.checkout / ".git").rename(tmp_path / "git")
    output = bare.fire_opd(*bare.demo_command(assets, "x"), status=1, GIT_CEILING_DIRECTORIES=str(tmp_path))
    assert "not a git checkout" in output
    assert "FIRE_OPD_LINEAGE=off" in output


def test_no_tracked_file_names_where_data_goes(machine: Machine, first: str) -> None:
    """Neither endpoint nor credentials: they are in the environment."""
    workspace = machine.root / "runs" / first
    for name in ("dvc.yaml", "dvc.lock", "params.yaml", ".dvc/config", "inputs.json"):
        text = (workspace / name).read_text()
        assert "127.0.0.1" not in text
        assert "s3://" not in text


def test_collection_keeps_what_kept_runs_need(machine: Machine, first: str, second: tuple[str, str]) -> None:
    machine.fire_opd("tag", first, "good")
    store = open_store(machine.store)
    before = {item.key for item in store.items("")}
    planned = machine.fire_opd("gc", "--keep-last", "0", "--grace", "0")
    assert f"keep    {first} (tag good)" in planned
    assert "remove  second" in planned
    assert "would remove" in planned
    assert {item.key for item in store.items("")} == before
    machine.fire_opd("gc", "--keep-last", "0", "--grace", "0", "--yes")
    assert not store.items("runs/second")
    assert len(store.items("dvc")) < len([key for key in before if key.startswith("dvc/")])
    assert machine.fire_opd("verify", first, "--remote").endswith("0 problem(s)\n")
    assert "up to date" in machine.dvc(first, "status")
    assert yaml.safe_load((machine.root / "runs" / first / "dvc.lock").read_text())["stages"]


def test_what_decides_no_result_may_change(machine: Machine, first: str, assets: Assets) -> None:
    """The last one here: the run keeps the change. It is committed with the run, and to DVC nothing changed."""
    told = machine.demo(assets, first, "scoring.max_mismatch=0.5")
    assert "changed scoring.max_mismatch: the run has 0.001, you gave 0.5" in told
    assert machine.run(first).spec.scoring.max_mismatch == 0.5
    assert f"runs/{first}: 1 setting(s) changed" in machine.git("log", "--format=%s", f"runs/{first}")
    assert "up to date" in machine.dvc(first, "status")
