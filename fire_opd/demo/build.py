"""Build what the demo runs on: two teachers, a student a seed, and the prompt sets.

    python -m fire_opd.demo.build --out DIR --seed 0 [--clean]

    DIR/teachers/{m,c}  DIR/students/<seed>      Hugging Face model directories
    DIR/prompts/{mixed,clean,held-out}.jsonl     mixed: 30 % of the prompts are beyond the teachers
    DIR/spec-<seed>[-clean].yaml                 a spec to run them with, written by the command only

What exists is kept: a directory is renamed into place when complete, so a build that was killed goes on where it was.
Models are trained side by side, two at a time, one thread each.
"""

import argparse
import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fire_opd.demo import tasks
from fire_opd.errors import ArtifactError, FireOpdError
from fire_opd.spec import RunSpec, dump_spec, load_spec

RECIPE = 1  # raise when the tasks, the vocabulary or the training of the models change

_SPEC = Path(__file__).with_name("spec.yaml")
_SIDE_BY_SIDE = 2
_DEADLINE = 1800.0  # seconds a model may take; about 70 on a quiet core


@dataclass(frozen=True)
class DemoAssets:
    """The files of a built demo, all of them under `root`."""

    root: Path
    seed: int
    teachers: dict[str, Path]  # by domain
    student: Path
    mixed: Path  # training prompts, 30 % of them beyond the teachers
    clean: Path  # training prompts, all in range
    held_out: Path

    def built(self) -> bool:
        """Whether all of it is there."""
        return all(path.exists() for path in (*self.teachers.values(), self.student, self.held_out))


def build_demo(root: Path, seed: int = 0) -> DemoAssets:
    """Build what is missing under `root` and say so, one line a milestone; a second call returns at once.

    Raises:
        ArtifactError: `root` was built by another recipe.
        FireOpdError: a model could not be trained.
    """
    root = root.resolve()
    root.mkdir(parents=True, exist_ok=True)
    assets = demo_assets(root, seed)
    with _locked(root):
        _check_recipe(root)
        _write_prompts(assets)
        wanted = [(path, domain) for domain, path in assets.teachers.items()] + [(assets.student, "student")]
        _train([(path, role) for path, role in wanted if not path.exists()], seed)
    return assets


def demo_spec(assets: DemoAssets, overrides: Sequence[str] = (), *, clean: bool = False) -> RunSpec:
    """The demo's spec on `assets`, with absolute paths; `overrides` such as `rounds.count=2` come last.

    Raises:
        SpecError: an override is unknown or contradictory.
    """
    paths = {
        "student.path": assets.student,
        **{f"teachers.{domain}.path": path for domain, path in assets.teachers.items()},
        "prompts.path": assets.clean if clean else assets.mixed,
        "evaluation.path": assets.held_out,
    }
    filled = [f"seed={assets.seed}", *(f"{field}={_quoted(path)}" for field, path in paths.items())]
    return load_spec(_SPEC, [*filled, *overrides])


def demo_assets(root: Path, seed: int) -> DemoAssets:
    """Where the files of a demo are, built or not."""
    prompts = root / "prompts"
    return DemoAssets(
        root=root,
        seed=seed,
        teachers={domain: root / "teachers" / domain for domain in tasks.DOMAINS},
        student=root / "students" / str(seed),
        mixed=prompts / "mixed.jsonl",
        clean=prompts / "clean.jsonl",
        held_out=prompts / "held-out.jsonl",
    )


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Hold the build of `root` alone; also removes what a killed build left."""
    with (root / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in root.glob(".tmp-*"):
            shutil.rmtree(left)
        yield


def _check_recipe(root: Path) -> None:
    path = root / "recipe"
    found = path.read_text().strip() if path.exists() else ""  # empty: a build that was killed while it wrote this
    if found not in ("", str(RECIPE)):
        raise ArtifactError(
            f"{root}: built by recipe {found} of the demo, this is recipe {RECIPE}; "
            "delete the directory or name another one"
        )
    if not found:
        path.write_text(f"{RECIPE}\n")


def _write_prompts(assets: DemoAssets) -> None:
    if assets.held_out.parent.exists():
        return
    temporary = assets.root / ".tmp-prompts"
    temporary.mkdir()
    sets = {
        assets.mixed: tasks.training(clean=False),
        assets.clean: tasks.training(clean=True),
        assets.held_out: tasks.held_out(),
    }
    for path, problems in sets.items():
        tasks.write_problems(temporary / path.name, problems)
    _commit(temporary, assets.held_out.parent)
    for path, problems in sets.items():
        hard = sum(problem.hard for problem in problems)
        print(f"prompts {path.stem}: {len(problems)}, of which {hard} beyond the teachers", flush=True)


def _train(wanted: Sequence[tuple[Path, str]], seed: int) -> None:
    """Train models in child processes, two at a time, and commit each when it is complete."""
    for path, role in wanted:
        print(f"training the {'student' if role == 'student' else 'teacher ' + role}: {path}", flush=True)
    waiting = list(wanted)
    running: list[tuple[Path, Path, subprocess.Popen[bytes]]] = []
    try:
        while waiting or running:
            while waiting and len(running) < _SIDE_BY_SIDE:
                path, role = waiting.pop(0)
                temporary = path.parents[1] / f".tmp-{role}"
                running.append((path, temporary, _start(temporary, role, seed)))
            running = [child for child in running if not _finished(*child)]
    finally:
        for _, _, child in running:
            child.kill()
            child.wait()


def _start(temporary: Path, role: str, seed: int) -> subprocess.Popen[bytes]:
    """The child ends when its standard input closes, however this process ends."""
    return subprocess.Popen(
        [sys.executable, "-m", "fire_opd.demo.train", str(temporary), role, str(seed)],
        stdin=subprocess.PIPE,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
    )


def _finished(path: Path, temporary: Path, child: subprocess.Popen[bytes]) -> bool:
    try:
        code = child.wait(timeout=0.1)
    except subprocess.TimeoutExpired:
        return False
    if code:
        raise FireOpdError(f"{path}: its training ended with exit code {code}; its message is above")
    _commit(temporary, path)
    return True


def _commit(temporary: Path, final: Path) -> None:
    for file in temporary.iterdir():
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
    final.parent.mkdir(exist_ok=True)
    temporary.rename(final)


def _quoted(path: Path) -> str:
    escaped = str(path).replace("'", "''")
    return f"'{escaped}'"


def main() -> None:
    """Command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description="Build the demo's models and prompt sets.")
    parser.add_argument("--out", type=Path, required=True, help="directory to build in; what exists is kept")
    parser.add_argument("--seed", type=int, default=0, help="seed of the student")
    parser.add_argument("--clean", action="store_true", help="write a spec without prompts beyond the teachers")
    arguments = parser.parse_args()
    assets = build_demo(arguments.out, arguments.seed)
    spec = assets.root / f"spec-{assets.seed}{'-clean' if arguments.clean else ''}.yaml"
    spec.write_text(dump_spec(demo_spec(assets, clean=arguments.clean)))
    print(f"spec: {spec}", flush=True)


if __name__ == "__main__":
    main()
