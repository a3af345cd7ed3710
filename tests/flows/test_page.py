"""What a person does on the page: fill in the form, watch the run, find its table. Screenshots go to `tests/output`."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Locator, Page, expect

from tests.conftest import chromium
from tests.flows.conftest import System

OUTPUT = Path(__file__).parents[1] / "output"
PATIENCE = 90_000  # ms: what does not come is not there; how fast it comes is not asked here
expect.set_options(timeout=PATIENCE)


@pytest.fixture
def page(system: System) -> Iterator[Page]:
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1400, "height": 1000}, base_url=system.url)
        page.set_default_timeout(PATIENCE)
        page.goto("/")  # asks for the password
        page.get_by_placeholder("admin:pass").fill(system.password)
        page.get_by_role("button", name="Login").click()
        page.wait_for_url("**/dashboard")
        yield page


def field(page: Page, name: str) -> Locator:
    """The input of a field of the form."""
    label = page.locator(".schema-form-property").filter(has=page.locator("label", has_text=name))
    return label.last.locator("input, textarea").first


def shoot(page: Page, name: str) -> None:
    OUTPUT.mkdir(exist_ok=True)
    page.wait_for_timeout(1500)
    page.screenshot(path=OUTPUT / f"{name}.png")


def submit(page: Page) -> None:
    """Press Submit: again, as a person does, where Prefect's SQLite was busy (503)."""
    for _ in range(5):
        with page.expect_response("**/create_flow_run") as answer:
            page.get_by_role("button", name="Submit").click()
        if answer.value.status != httpx.codes.SERVICE_UNAVAILABLE:
            break
    assert answer.value.ok, answer.value.text()


def test_a_run_from_the_form(system: System, page: Page) -> None:
    page.goto(f"/deployments/deployment/{system.deployment('distill')['id']}/run")
    for name, value in (
        ("Rounds", "1"),
        ("Rollouts", "64"),
        ("Updates", "2"),
        ("Percentile", "25"),
        ("Max Tokens", "16"),
    ):
        field(page, name).fill(value)
    page.get_by_role("button", name="Add item").click()
    field(page, "More").fill("train.warmup_updates=1")
    field(page, "run (").fill("from-the-form")
    shoot(page, "form")
    page.route("**/create_flow_run", lambda route: route.fulfill(status=503), times=1)  # busy: the form stays filled in
    submit(page)
    page.goto("/runs")
    page.get_by_role("link", name="distill from-the-form").click(timeout=720_000)
    expect(page.get_by_text("round 1/1: accuracy")).to_be_visible(timeout=720_000)
    shoot(page, "flow-run")
    flow_run = system.runs_of("distill")[0]
    assert system.finish(flow_run["id"])["state_type"] == "COMPLETED"
    assert flow_run["parameters"]["spec"]["percentile"] == 25
    page.get_by_text("Artifacts", exact=True).click()
    expect(page.get_by_text("from-the-form-rounds").first).to_be_visible()
    shoot(page, "artifacts")
    artifacts = system.post("/artifacts/filter", artifacts={"flow_run_id": {"any_": [flow_run["id"]]}})
    newest = {artifact["key"]: artifact for artifact in sorted(artifacts, key=lambda a: a["created"])}
    assert {a["type"] for a in newest.values()} == {"table", "progress", "markdown"}
    assert newest["from-the-form-progress"]["data"] == 100
    page.goto(f"/artifacts/artifact/{newest['from-the-form-rounds']['id']}")
    held_out = ("accuracy", "unreadable")
    for heading in (*held_out, "kept", "loss", "reverse KL", "entropy", "truncated", "length", "tokens/s", "seconds"):
        expect(page.get_by_role("columnheader", name=heading, exact=True)).to_be_visible()
    expect(page.get_by_text("75%", exact=True)).to_be_visible()  # what a filter of 25 % keeps
    shoot(page, "round-table")
    page.goto(f"/artifacts/artifact/{newest['from-the-form-report']['id']}")
    expect(page.get_by_alt_text("accuracy, share kept, divergence and length by round")).to_be_visible()
    expect(page.get_by_alt_text("every second by role")).to_be_visible()
    shoot(page, "report")


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"spec": {"rounds": 0}}, "rounds"),
        ({"spec": {"preset": "other"}}, "preset"),
        ({"spec": {"epochs": 3}}, "epochs"),
    ],
)
def test_a_bad_parameter_is_refused_at_once(system: System, parameters: dict[str, object], named: str) -> None:
    deployment = system.deployment("distill")["id"]
    answer = system.request("POST", f"/deployments/{deployment}/create_flow_run", {"parameters": parameters})
    assert answer.status_code == 409
    assert named in answer.text


def test_a_contradiction_is_named_before_any_engine(system: System) -> None:
    flow_run = system.start("distill", spec={"more": ["filter.scope=micro_batch"]}, run="contradiction")
    ended = system.finish(flow_run, 60)
    assert ended["state_type"] == "FAILED"
    assert "filter.micro_batch" in ended["state"]["message"]
    assert not (system.root / "runs" / "contradiction").exists()
