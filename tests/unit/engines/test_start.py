"""Which engines of a run load side by side, and which in turn. There is no GPU here: no engine is started."""

from pathlib import Path
from typing import Any

import pytest

from fire_opd.engines.crew import Crew
from fire_opd.engines.spawn import Seat
from fire_opd.errors import EngineDied
from fire_opd.storage import Run
from tests.conftest import Assets

TOGETHER = "placement.device=cuda"
APART = ["placement.sampler.devices=[0]", "placement.scorer.devices=[1]", "placement.trainer.devices=[2]"]


class Noted:
    """A transport whose engines only note what is asked of them."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def start(self, seat: Seat) -> Any:
        self.events.append(f"start {seat.name}")
        noted = self

        class Engine:
            def wait_ready(self, deadline: float) -> dict[str, Any]:
                noted.events.append(f"{seat.name} is ready")
                raise EngineDied("as an engine that cannot load")

            def close(self) -> None:
                """Nothing to end."""

        return Engine()

    def hold(self) -> None:
        """Nothing to hold."""

    def release(self) -> None:
        """Nothing to release."""


@pytest.mark.parametrize(
    ("overrides", "shared"),
    [
        ([], False),
        ([TOGETHER], True),
        ([TOGETHER, *APART], False),
        ([TOGETHER, *APART[:2], "placement.trainer.devices=[0, 1]"], True),
        ([TOGETHER, "placement.ray.address=head:6379"], False),
    ],
)
def test_engines_on_one_gpu_load_in_turn(assets: Assets, tmp_path: Path, overrides: list[str], shared: bool) -> None:
    """vLLM takes its share of what is free, which others change as they load; what fails is told later."""
    crew, noted = Crew(Run.create(tmp_path / "run", assets.spec())), Noted()
    object.__setattr__(crew.run, "spec", assets.spec(*overrides))
    crew._transport = noted
    crew.start("trainer", "sampler")
    crew.close()
    turns = ["start trainer", "trainer is ready", "start sampler", "sampler is ready"]
    assert noted.events == (turns if shared else ["start trainer", "start sampler"])
