"""Pages of sections, of studies and of what-ifs, in a browser: text is text, and nothing is loaded."""

from pathlib import Path
from typing import Any

from playwright.sync_api import expect

from fire_opd.report.picture import what_if_drawing
from fire_opd.report.whatif import write_what_if
from fire_opd.storage import Run
from fire_opd.study.compare import Pair
from fire_opd.study.report import over_seeds, write_browser_page
from tests.conftest import Assets, chromium
from tests.unit.report.test_page import HOSTILE
from tests.unit.study.test_study_page import SUMMARY

ROW = {"kept": 0.8, "kept_by_domain": {HOSTILE: 0.5}, "agree": 1.0, "rank": None, "top": 1.0, "mass": 0.5}


def test_of_a_what_if(assets: Assets, tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", assets.spec())
    rows: list[dict[str, Any]] = [
        {"method": "fire", **ROW},
        {"method": "opd", **ROW},
        {"method": "tip", "error": HOSTILE},
    ]
    write_what_if(rows, 3, run, tmp_path / "page.html")
    with chromium() as browser:
        page = browser.new_page()
        requested: list[str] = []
        page.on("request", lambda request: requested.append(request.url))
        page.goto((tmp_path / "page.html").as_uri())
        expect(page.locator("h1")).to_have_text("run, round 3: what each method would keep and weigh")
        expect(page.locator("tbody tr")).to_have_count(2)
        expect(page.locator("tbody tr").first.locator("td")).to_have_text(
            ["fire", "80%", "50%", "100%", "–", "1.00", "50%"]
        )
        expect(page.locator("th").nth(2)).to_have_text(f"kept {HOSTILE}")
        expect(page.locator("section").last).to_contain_text(f"tip: {HOSTILE}")
        assert page.locator("svg").count() == 1
        assert page.locator("img, svg image").count() == 0
        assert requested == [page.url]
        assert page.evaluate("window.taken") is None


def test_of_a_study(tmp_path: Path) -> None:
    rounds = [
        {"round": n, "value": 0.5 + n / 10, "updates": 4 * n, "rollouts": 8 * n, "seconds": 2.0 * n, "cost": 0.0}
        for n in (0, 1)
    ]
    arms = {
        name: over_seeds([{"seed": 0, "after": after, "gain": 10.0, "rounds": rounds}])
        for name, after in (("a", 0.6), (HOSTILE, 0.7))
    }
    pairs = [Pair(HOSTILE, "a", 1, difference=0.1, low=0.05, high=0.2, p=0.01, better=HOSTILE)]
    write_browser_page(tmp_path / "study.html", {**SUMMARY, "arms": arms}, pairs)
    with chromium() as browser:
        page = browser.new_page()
        page.goto((tmp_path / "study.html").as_uri())
        expect(page.locator(".headline")).to_contain_text("Not finished. 3 of 4 runs; base demo, seeds 0, 1; accuracy")
        expect(page.locator("section").first).to_contain_text("Failed: s-b-1: it diverged")
        rows = page.locator("tbody tr")
        expect(rows.first.locator("td").first).to_have_text(HOSTILE)  # the best one first
        expect(rows.first.locator("td").last).to_have_text("a")
        assert page.locator("svg").count() == 1
        assert page.locator("img").count() == 0
        assert page.evaluate("window.taken") is None


def test_equal_drawings_are_equal_text(tmp_path: Path, assets: Assets) -> None:
    run, rows = Run.create(tmp_path / "run", assets.spec()), [{"method": "fire", **ROW}]
    for name in ("one", "two"):
        write_what_if(rows, 1, run, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert what_if_drawing(rows, 1).axes
