"""Where engines live: what a place on a cluster takes, what its node must share, and what an engine may know of Ray."""

import sys
from pathlib import Path

import pytest

from fire_opd.engines.cluster import bundles
from fire_opd.engines.crew import Crew
from fire_opd.engines.node import Node
from fire_opd.engines.spawn import Seat, environment
from fire_opd.spec import PlacementSpec
from fire_opd.storage import Run
from tests.conftest import Assets


def test_a_run_on_one_machine_does_not_import_ray(assets: Assets, tmp_path: Path) -> None:
    Crew(Run.create(tmp_path / "run", assets.spec())).close()
    assert "ray" not in sys.modules


def test_each_replica_and_rank_takes_its_own_cpus_and_gpus(assets: Assets) -> None:
    placement = PlacementSpec.model_validate(
        {
            "device": "cuda",
            "sampler": {"devices": [0, 1, 2, 3], "replicas": 2, "threads": 3},
            "trainer": {"devices": [0, 1]},
            "ray": {"address": "head:6379", "resources": {"fast": 1}},
        }
    )
    assert bundles(assets.spec().model_copy(update={"placement": placement})) == {
        ("sampler", 0): {"CPU": 6, "GPU": 2, "fast": 1},
        ("sampler", 1): {"CPU": 6, "GPU": 2, "fast": 1},
        ("scorer", 0): {"CPU": 1, "GPU": 1, "fast": 1},
        ("trainer", 0): {"CPU": 1, "GPU": 1, "fast": 1},
        ("trainer", 1): {"CPU": 1, "GPU": 1, "fast": 1},
    }
    shared = assets.spec("rounds.chunk=32", "placement.sampler.replicas=2")
    assert bundles(shared)["sampler", 1] == {"CPU": 1}


def test_an_engine_does_not_have_the_token_of_the_cluster(
    assets: Assets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
    monkeypatch.setenv("PYTHONBREAKPOINT", "ray.util.rpdb.set_trace")
    found = environment(Run.create(tmp_path / "run", assets.spec()), Seat("sampler"))
    assert not [name for name, value in found.items() if "RAY" in name or value.startswith("ray.") or value == "secret"]
    assert found["OMP_NUM_THREADS"] == "1"


def test_a_node_says_what_it_does_not_share(tmp_path: Path) -> None:
    node, probe = Node({}), tmp_path / "probe"
    assert node.missing(probe, "word", "reply", []) == f"{tmp_path} (No such file or directory)"
    probe.write_text("of another run")
    assert node.missing(probe, "word", "reply", []) == f"{tmp_path} (what the command writes is not seen there)"
    probe.write_text("word")
    assert node.missing(probe, "word", "reply", [str(tmp_path), "/models/student"]) == "/models/student (not there)"
    assert probe.read_text() == "reply"
