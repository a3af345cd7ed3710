"""Objects that rot, stores that fail, recorders that die: each is noticed and named, and nothing recorded is lost."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import s3fs

from fire_opd.lineage.objects import object_key, outputs, stored
from fire_opd.storage import open_store
from tests.conftest import Assets, digests
from tests.faults.schedule import Record, assert_nothing_left, endure
from tests.lineage.conftest import Machine, Proxy, make_machine


def an_object(machine: Machine, name: str, output: str, file: str) -> str:
    """MD5 of a file of a stage directory."""
    lock = machine.root / "runs" / name / "dvc.lock"
    found = next(o for o in outputs(lock) if o.path == f"run/{output}")
    return stored(open_store(machine.store)).files(found.md5)[file]


def damage(data: bytes, how: str) -> bytes:
    return data[:-1] if how == "cut" else bytes([data[0] ^ 1]) + data[1:]


@pytest.mark.parametrize("how", ["flipped", "cut"])
@pytest.mark.parametrize("file", ["scores.parquet", "manifest.json"])
def test_rot_in_the_store(machine: Machine, first: str, how: str, file: str) -> None:
    md5 = an_object(machine, first, "rounds/1/scores", file)
    key = f"{machine.store}/dvc/{object_key(md5)}"
    files = s3fs.S3FileSystem(use_listings_cache=False)
    files.pipe_file(key, damage(files.cat_file(key), how))
    found = machine.fire_opd("verify", first, "--remote", status=1)
    assert "rounds/1/scores" in found
    assert md5[2:] in found
    assert "repaired" in machine.fire_opd("verify", first, "--remote", "--repair")
    assert machine.fire_opd("verify", first, "--remote").endswith("0 problem(s)\n")


@pytest.mark.parametrize("how", ["flipped", "cut"])
def test_rot_in_the_cache(machine: Machine, first: str, how: str) -> None:
    md5 = an_object(machine, first, "rounds/1/rollouts", "rollouts.parquet")
    file = machine.root / "state" / "dvc" / "cache" / object_key(md5)
    file.chmod(0o644)
    file.write_bytes(damage(file.read_bytes(), how))
    assert str(file) in machine.fire_opd("verify", first, status=1)
    assert "repaired" in machine.fire_opd("verify", first, "--repair")
    assert machine.fire_opd("verify", first).endswith("0 problem(s)\n")


def test_rot_in_a_workspace(machine: Machine, first: str) -> None:
    file = machine.run(first).path("rounds/2/batch/manifest.json")
    good = file.read_bytes()
    file.write_bytes(good.replace(b'"revision": ', b'"revision": 1'))  # another one, whatever it is
    found = machine.fire_opd("verify", first, status=1)
    file.write_bytes(good)
    assert "rounds/2/trainer/manifest.json: was made from another rounds/2/batch" in found


def test_a_pull_of_rotten_objects_is_refused(machine: Machine, first: str, tmp_path: Path) -> None:
    md5 = an_object(machine, first, "rounds/2/checkpoint", "model.safetensors")
    key = f"{machine.store}/dvc/{object_key(md5)}"
    files = s3fs.S3FileSystem(use_listings_cache=False)
    good = files.cat_file(key)
    files.pipe_file(key, damage(good, "flipped"))
    output = make_machine(tmp_path, machine.store).fire_opd("reproduce", first, status=1)
    files.pipe_file(key, good)
    assert "differs: rounds/2/checkpoint" in output
    assert f"model.safetensors: {key}: altered: its MD5 is not its name" in output


@pytest.mark.long
def test_a_slow_store_that_stumbles_and_a_recorder_killed_in_mid_push(
    machine: Machine, first: str, assets: Assets, proxy: Proxy
) -> None:
    proxy.delay, proxy.fail = 0.05, 3
    slow = Machine(machine.root, machine.store, {"AWS_ENDPOINT_URL": proxy.url})
    process = slow.start(*slow.demo_command(assets, "killed", "filter.percentile=40"))
    cache, killed = machine.root / "runs" / "killed" / "dvc.lock", False
    while process.poll() is None and not killed:
        time.sleep(0.05)
        if cache.is_file():  # committed: the push has begun
            time.sleep(0.3)
            killed = kill_recorder("killed")
    output, _ = process.communicate(timeout=1200)
    assert process.returncode == 0, output
    assert killed
    assert "are not recorded yet: engine recorder ended" in output
    assert machine.fire_opd("verify", "killed", "--remote").endswith("0 problem(s)\n")


@pytest.mark.full
@pytest.mark.timeout(2700)
def test_a_store_that_dies_loses_nothing(machine: Machine, first: str, assets: Assets, proxy: Proxy) -> None:
    dying = Machine(machine.root, machine.store, {"AWS_ENDPOINT_URL": proxy.url})
    process = dying.start(*dying.demo_command(assets, "orphan", "filter.percentile=50"))
    while not (dying.root / "runs/orphan/run/rounds/1/batch/manifest.json").is_file():
        assert process.poll() is None
        time.sleep(0.2)
    proxy.close()
    output, _ = process.communicate(timeout=1500)
    assert process.returncode == 3, output
    assert "StoreUnreachable" in output
    assert (dying.root / "runs/orphan/run/rounds/2/evaluation/manifest.json").is_file()
    machine.demo(assets, "orphan", "filter.percentile=50")
    assert machine.fire_opd("verify", "orphan", "--remote").endswith("0 problem(s)\n")


def test_a_dead_endpoint_is_one_clear_line(machine: Machine) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{probe.getsockname()[1]}"
    output = machine.fire_opd("runs", status=3, AWS_ENDPOINT_URL=dead)
    assert output.startswith("StoreUnreachable: s3://bucket/lineage/")
    assert dead in output


def test_wrong_credentials_are_one_clear_line_without_the_secret(machine: Machine, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    keys = {"NANIO_ACCESS_KEY": "goodkey12345", "NANIO_SECRET_KEY": "goodsecret12345"}
    command = [str(Path(sys.executable).with_name("nanio")), "serve", "--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen([*command, "--data-dir", str(tmp_path), "--no-access-log"], env={**os.environ, **keys})
    try:
        url = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "FIRE_OPD_STORE": "s3://data/x"}
        right = {"AWS_ACCESS_KEY_ID": keys["NANIO_ACCESS_KEY"], "AWS_SECRET_ACCESS_KEY": keys["NANIO_SECRET_KEY"]}
        (tmp_path / "data").mkdir()
        _wait_for_port(port)
        machine.fire_opd("runs", **url, **right)
        output = machine.fire_opd("runs", status=3, **url, **{**right, "AWS_SECRET_ACCESS_KEY": "wrongsecret999"})
        assert output.count("\n") == 1
        assert output.startswith("StoreUnreachable: s3://data/x/")
        assert "wrongsecret999" not in output
    finally:
        server.terminate()
        server.wait(10)


SPREAD = [
    "workspace.made:kill",
    "git.switch:full",
    "recording.begin:kill",
    "recorder.saved:kill",
    "recorder.committed:fail",
    "recorder.announced:full",
    "recorder.pushed:kill",
    "recorder.indexed:fail",
    "git.bundle:full",
    "record.uploaded:kill",
    "record.replaced:kill",
]
POINTS = [
    *("workspace.made", "git.worktree", "git.switch", "git.commit", "recording.begin", "recorder.saved"),
    *("recorder.committed", "recorder.announced", "recorder.pushed", "recorder.indexed", "git.bundle"),
    *("record.uploaded", "record.replaced"),
]

COLD = [f"placement.{role}.mode=cold" for role in ("sampler", "scorer", "trainer")]  # none is loaded in vain


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    "faults",
    [
        pytest.param(SPREAD, id="spread"),
        *(
            pytest.param([f"{point}:{action}" for point in POINTS], id=action, marks=pytest.mark.full)
            for action in ("kill", "fail", "full")
        ),
    ],
)
def test_recording_endures(
    machine: Machine,
    first: str,
    assets: Assets,
    prefect_api: str,
    tmp_path: Path,
    record_property: Record,
    faults: list[str],
) -> None:
    """All stages come from the cache, so that only the making, recording and pushing of the run are at work."""
    record_property("faults", len(faults))
    name = f"endures-{faults[-1].partition(':')[2]}-{len(faults)}"

    def command(env: dict[str, str]) -> tuple[int, str]:
        process = machine.start(*machine.demo_command(assets, name, *COLD), PREFECT_API_URL=prefect_api, **env)
        output, _ = process.communicate(timeout=1740)
        return process.returncode, output

    endure(faults, command, tmp_path / "markers")
    assert digests(machine.run(name).folder) == digests(machine.run(first).folder)
    assert "up to date" in machine.dvc(name, "status")
    assert machine.fire_opd("verify", name, "--remote").endswith("0 problem(s)\n")
    assert not list((machine.root / "runs").glob(f".{name}*"))  # half-made workspaces, locks
    assert_nothing_left(machine.root / "runs" / name)


def kill_recorder(run: str) -> bool:
    """SIGKILL the recorder of a run and not its guard; False when there is none."""
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or []
        if command[1:3] == ["-m", "fire_opd.lineage.dvc_process"] and any(f"/{run}/" in part for part in command):
            process.kill()
            return True
    return False


def _wait_for_port(port: int) -> None:
    until = time.monotonic() + 30
    while socket.socket().connect_ex(("127.0.0.1", port)):
        assert time.monotonic() < until
        time.sleep(0.1)
