"""The deployment `study`: a file on the machine that runs, refused before an engine starts where it is wrong."""

from pathlib import Path

import pytest

from tests.flows.conftest import System


@pytest.mark.long
def test_an_arm_that_cannot_be_run_is_named_as_the_state(system: System, small_spec: Path, tmp_path: Path) -> None:
    file = tmp_path / "filters.yaml"
    file.write_text(f"{{base: {small_spec}, seeds: [0], arms: {{strict: {{filter.percentile: 101}}}}}}")
    flow_run = system.finish(system.start("study", file=str(file)))
    assert flow_run["name"] == "study filters"
    assert flow_run["state_type"] == "FAILED"
    assert "arms.strict: " in flow_run["state"]["message"]
    assert "filter.percentile" in flow_run["state"]["message"]
    assert not (system.root / "runs" / "filters").exists()
