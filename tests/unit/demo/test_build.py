import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fire_opd.demo import build, tasks, train
from fire_opd.demo.build import DemoAssets, build_demo, demo_spec
from fire_opd.errors import ArtifactError, FireOpdError, SpecError


@pytest.fixture
def built(tmp_path: Path) -> DemoAssets:
    """A root whose models are there already (empty: a build does not look inside)."""
    for name in ("teachers/m", "teachers/c", "students/3"):
        (tmp_path / name).mkdir(parents=True)
    return build_demo(tmp_path, 3)


def test_first_build_says_what_is_beyond_the_teachers_and_the_second_keeps_all(
    built: DemoAssets, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(built.mixed.parent)
    build_demo(built.root, 3)
    assert "mixed: 15360, of which 4608 beyond the teachers" in capsys.readouterr().out
    before = built.mixed.stat()
    assert build_demo(built.root, 3) == built
    assert built.mixed.stat().st_mtime_ns == before.st_mtime_ns
    assert capsys.readouterr().out == ""
    assert len(built.held_out.read_text().splitlines()) == tasks.HELD_OUT


def test_leftovers_of_a_killed_build_are_removed(built: DemoAssets) -> None:
    (built.root / ".tmp-student").mkdir()
    (built.root / ".tmp-student" / "half").touch()
    build_demo(built.root, 3)
    assert not list(built.root.glob(".tmp-*"))


def test_another_recipe_is_refused(built: DemoAssets) -> None:
    (built.root / "recipe").write_text("0\n")
    with pytest.raises(ArtifactError, match=r"recipe 0.*recipe 1.*delete"):
        build_demo(built.root, 3)


def test_failed_training_is_an_error_and_leaves_no_model(tmp_path: Path) -> None:
    with pytest.raises(FireOpdError, match="exit code"):
        build._train([(tmp_path / "teachers" / "x", "no-such-domain")], seed=0)
    assert not (tmp_path / "teachers").exists()


def test_spec_is_the_recipe_on_the_built_files(built: DemoAssets) -> None:
    spec = demo_spec(built, ["rounds.count=2", "train.warmup_updates=3"])
    assert (spec.seed, spec.rounds.count, spec.rounds.rollouts, spec.rounds.updates) == (3, 2, 768, 12)
    assert {name: (Path(t.path), t.domains) for name, t in spec.teachers.items()} == {
        domain: (path, [domain, f"{domain}-hard"]) for domain, path in built.teachers.items()
    }
    assert (spec.student.path, spec.student.dtype) == (str(built.student), "float32")
    assert (spec.prompts.path, spec.evaluation.path) == (str(built.mixed), str(built.held_out))
    assert spec.evaluation.answer_prefix == tasks.MARK
    assert spec.sampling.max_tokens == tasks.MAX_RESPONSE
    assert demo_spec(built, clean=True).prompts.path == str(built.clean)
    assert 2 * demo_spec(built).rounds.count * spec.rounds.rollouts == tasks.TRAIN  # half an epoch
    with pytest.raises(SpecError, match="no_such"):
        demo_spec(built, ["train.no_such=1"])


def test_paths_with_odd_characters_survive(built: DemoAssets) -> None:
    odd = Path("/a: b/it's #1")
    spec = demo_spec(DemoAssets(built.root, 0, built.teachers, odd, built.mixed, built.clean, built.held_out))
    assert spec.student.path == str(odd)


def test_student_is_the_same_byte_for_byte_and_needs_its_accuracy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "STUDENT_FIRST", 4)
    monkeypatch.setattr(train, "STUDENT_EVERY", 2)
    monkeypatch.setattr(train, "STUDENT_LAST", 4)
    with pytest.raises(FireOpdError, match="choose another seed"):
        train.build_student(tmp_path / "weak", seed=0)
    assert not (tmp_path / "weak").exists()
    monkeypatch.setattr(train, "STUDENT_TARGET", 0.0)
    for name in ("one", "again"):
        assert train.build_student(tmp_path / name, seed=0).steps == 4
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert "training.json" in files
    assert all((tmp_path / "one" / f).read_bytes() == (tmp_path / "again" / f).read_bytes() for f in files)


def test_training_ends_with_the_build_that_started_it(tmp_path: Path) -> None:
    code = f"from pathlib import Path; from fire_opd.demo.build import build_demo; build_demo(Path({str(tmp_path)!r}))"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL) as parent:
        children = _wait_for(lambda: _children(parent.pid), wanted=2)
        os.kill(parent.pid, signal.SIGKILL)
    assert not _wait_for(lambda: [pid for pid in children if _alive(pid)], wanted=0)
    assert not (tmp_path / "teachers").exists()


def _wait_for(look, wanted):  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + 60
    while len(found := look()) != wanted:
        assert time.monotonic() < deadline, f"expected {wanted}, found {found}"
        time.sleep(0.1)
    return found


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
