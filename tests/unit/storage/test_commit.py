"""A stage directory is complete, or it is not there."""

import subprocess
import sys
from pathlib import Path

import pytest

from fire_opd.storage import commit_stage, directory_digest, read_manifest, retire, retired_manifest, verify_files

FIELDS = {"stage": "score", "revision": 1, "round": 1, "params": {"a": 1}, "inputs": {"x": "0"}, "threads": 1}


def write(directory: Path, text: str = "hello") -> None:
    with commit_stage(directory, **FIELDS) as writer:
        (writer.path / "data").mkdir()
        (writer.path / "data" / "table").write_text(text)
        writer.metrics["rows"] = 1


def test_a_committed_directory_carries_its_digests(tmp_path: Path) -> None:
    write(tmp_path / "scores")
    manifest = read_manifest(tmp_path / "scores")
    assert manifest is not None
    assert manifest.files["data/table"].size == 5
    assert manifest.metrics == {"rows": 1}
    assert verify_files(tmp_path / "scores") == []
    assert [path.name for path in tmp_path.iterdir()] == ["scores"]


def test_equal_work_gives_equal_digests_anywhere(tmp_path: Path) -> None:
    write(tmp_path / "here" / "scores")
    write(tmp_path / "there" / "scores")
    assert directory_digest(tmp_path / "here" / "scores") == directory_digest(tmp_path / "there" / "scores")


def test_an_error_leaves_the_old_state(tmp_path: Path) -> None:
    write(tmp_path / "scores", "old")

    def fail() -> None:
        with commit_stage(tmp_path / "scores", **FIELDS) as writer:
            (writer.path / "table").write_text("half")
            raise RuntimeError("died")

    with pytest.raises(RuntimeError):
        fail()
    assert (tmp_path / "scores" / "data" / "table").read_text() == "old"


@pytest.mark.parametrize(("point", "there"), [("score.written", False), ("score.renamed", True)])
def test_sigkill_while_committing(tmp_path: Path, point: str, there: bool) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); from pathlib import Path\n"
        f"import test_commit; test_commit.write(Path({str(tmp_path / 'scores')!r}))"
    )
    env = {"FIRE_OPD_FAILPOINT": f"{point}={tmp_path / 'marker'}"}
    first = subprocess.run([sys.executable, "-c", code], env=env, check=False)
    assert first.returncode == -9
    assert (read_manifest(tmp_path / "scores") is not None) == there
    assert subprocess.run([sys.executable, "-c", code], env=env, check=False).returncode == 0  # acts once
    assert verify_files(tmp_path / "scores") == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["marker", "scores"]


@pytest.mark.parametrize("harm", ["flip", "truncate", "remove", "add", "manifest"])
def test_every_kind_of_damage_is_named(tmp_path: Path, harm: str) -> None:
    write(tmp_path / "scores")
    table = tmp_path / "scores" / "data" / "table"
    match harm:
        case "flip":
            table.write_text("hellp")
        case "truncate":
            table.write_text("hell")
        case "remove":
            table.unlink()
        case "add":
            table.with_name("extra").write_text("")
        case "manifest":
            (tmp_path / "scores" / "manifest.json").write_text("{")
    (problem,) = verify_files(tmp_path / "scores")
    assert {
        "flip": "altered",
        "truncate": "altered",
        "remove": "missing",
        "add": "not in the manifest",
        "manifest": "altered",
    }[harm] in problem
    assert (read_manifest(tmp_path / "scores") is None) == (harm in ("truncate", "remove", "manifest"))


def test_a_retired_directory_keeps_its_digest(tmp_path: Path) -> None:
    write(tmp_path / "trainer")
    digest = directory_digest(tmp_path / "trainer")
    retire(tmp_path / "trainer")
    retire(tmp_path / "trainer")
    assert not (tmp_path / "trainer" / "data" / "table").exists()
    assert read_manifest(tmp_path / "trainer") is None
    assert retired_manifest(tmp_path / "trainer") is not None
    assert directory_digest(tmp_path / "trainer") == digest
