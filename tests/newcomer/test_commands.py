"""Every block of commands in README.md and the pages in docs/ does what it says, typed as it is printed.

The clone has what the pages call `first`, `second`, `demo`, `my-spec.yaml` and `tickets.jsonl`, and object storage has
what it recorded before them. Of `make`, only what it would do is asked: `.ci/run` runs the demo and the tests as
printed.
"""

import shlex
import shutil
from collections.abc import Iterator

import pytest

from fire_opd.spec import dump_spec
from tests.conftest import Assets
from tests.newcomer.conftest import Clone
from tests.newcomer.pages import ROOT, Code, blocks, commands, spans

TUTORIALS = ROOT / "docs" / "tutorials"


def as_run(block: Code) -> str:
    """The block as it is, but `make -n` for `make`."""
    lines = []
    for text, line in zip(block.text.splitlines(), commands(block.text), strict=True):
        if any(command.words[:1] == ("make",) for command in line):
            assert len(line) == 1, "make stands on a line of its own"
            text = shlex.join(["make", "-n", *line[0].words[1:]])
        lines.append(text)
    return "\n".join(lines)


@pytest.fixture(scope="module")
def desk(clone: Clone, bucket: str, assets: Assets) -> Clone:
    """The clone with what the pages speak of."""
    assert bucket == "s3://bucket"
    shutil.copy(clone.elsewhere / "my-spec.yaml", clone.root)
    shutil.copy(assets.demo.mixed, clone.root / "tickets.jsonl")
    clone.fire_opd("run", "my-spec.yaml", "--name", "second")
    return clone


@pytest.fixture(scope="module")
def workshop(desk: Clone, assets: Assets, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """With a run `demo`, of both teachers, which the tutorials speak of."""
    spec = tmp_path_factory.mktemp("demo") / "demo.yaml"
    spec.write_text(dump_spec(assets.spec("rounds.count=1", "train.total_updates=4")))
    desk.fire_opd("run", str(spec), "--name", "demo")
    return desk


@pytest.fixture
def tidy(desk: Clone) -> Iterator[None]:
    """Removes the workspace that a block brought back, as the pages say."""
    yield
    [removal] = [code.text for code in spans() if code.text.startswith("git worktree remove")]
    if (desk.root / "runs/first-reproduced").exists():
        desk.shell(removal.replace("NAME", "first-reproduced"))


@pytest.mark.usefixtures("tidy")
@pytest.mark.parametrize("block", [block for block in blocks() if block.page.parent != TUTORIALS], ids=str)
def test_a_block_runs(desk: Clone, block: Code) -> None:
    desk.shell(as_run(block))


@pytest.mark.parametrize("block", [block for block in blocks() if block.page.parent == TUTORIALS], ids=str)
def test_a_block_of_a_tutorial_runs(workshop: Clone, block: Code) -> None:
    """In their order: what one tutorial makes, the next ones use."""
    workshop.shell(as_run(block))
