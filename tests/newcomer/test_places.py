"""Nothing set, from any working directory: a run is made, listed, verified, brought back and explained."""

import json
from pathlib import Path

from tests.conftest import digests
from tests.newcomer.conftest import BIN, Clone, git, said


def test_everything_is_in_the_clone(clone: Clone) -> None:
    """Nothing is where the command was typed, nothing but libraries' caches in the home folder; git sees no change."""
    assert (clone.root / "runs/first/run/report/curves.png").is_file()
    record = json.loads((clone.root / ".state/store/runs/first/record.json").read_text())
    assert (record["state"], record["done"]) == ("complete", 1)
    assert [file.name for file in clone.elsewhere.rglob("*")] == ["my-spec.yaml"]
    assert {file.name for file in clone.home.iterdir()} <= {".cache", ".config"}
    own = {
        f"?? {name}"
        for name in ("methods.yaml", "my-spec.yaml", "own.yaml", "tickets.jsonl", "whatif.html", "whatif.png")
    }  # what blocks of the pages write
    assert set(git(clone.root, "status", "--porcelain").splitlines()) <= own
    assert git(clone.root, "branch", "--show-current") == git(Path(__file__).parent, "branch", "--show-current")


def test_it_is_listed_and_verified(clone: Clone) -> None:
    assert "first" in clone.fire_opd("runs")
    assert clone.fire_opd("verify", "first", "--remote").endswith("first: 0 problem(s)\n")


def test_it_comes_back_with_an_empty_cache(clone: Clone, tmp_path: Path) -> None:
    cache = clone.root / ".state" / "dvc" / "cache"
    cache.rename(cache.with_name("away"))
    into = tmp_path / "zurück"
    assert "all digests are equal" in clone.fire_opd("reproduce", "first", "--into", str(into))
    assert digests(into / "run") == digests(clone.root / "runs/first/run")
    git(clone.root, "worktree", "remove", "-f", "-f", str(into))


def test_dvc_finds_nothing_to_do(clone: Clone) -> None:
    assert "up to date" in said([str(BIN / "dvc"), "status"], clone.root / "runs/first", clone.env)


def test_a_path_and_a_name_are_explained(clone: Clone) -> None:
    by_path = clone.fire_opd("explain", str(clone.root / "runs/first/run/rounds/1/checkpoint"))
    assert "rounds/1/checkpoint of run first" in by_path
    assert by_path.splitlines()[1:] == clone.fire_opd("explain", "first").splitlines()[1:]
