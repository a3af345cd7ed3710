"""A terminal shows the run below the log lines; a pipe gets the lines alone."""

import io
import logging

import pytest
from prefect.logging.handlers import PrefectConsoleHandler
from rich.console import Console

from fire_opd.storage import Run
from flows.terminal import at_work
from tests.conftest import Assets


@pytest.mark.parametrize("terminal", [True, False])
def test_a_run_at_work(assets: Assets, tmp_path_factory: pytest.TempPathFactory, terminal: bool) -> None:
    run, shown = Run.create(tmp_path_factory.mktemp("terminal") / "shown", assets.spec()), io.StringIO()
    handler = PrefectConsoleHandler()
    handler.console = Console(file=shown, force_terminal=terminal, width=100)
    logging.getLogger().addHandler(handler)
    kept = [h for h in logging.getLogger().handlers if isinstance(h, PrefectConsoleHandler) and h is not handler]
    for other in kept:
        logging.getLogger().removeHandler(other)
    try:
        with at_work(run):
            logging.getLogger("fire-opd").warning("a line of the log")
    finally:
        logging.getLogger().removeHandler(handler)
        for other in kept:
            logging.getLogger().addHandler(other)
    assert "a line of the log" in shown.getvalue()
    assert ("shown · fire_kl · stopped, round 0 of 2" in shown.getvalue()) == terminal
