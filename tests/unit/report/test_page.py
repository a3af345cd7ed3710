"""The page of a run in a browser: every control of the trajectories, and text that would like to be HTML."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Page, expect
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from fire_opd.evaluation.metrics import GREEDY
from fire_opd.records import BATCH, PROMPT, ROLLOUT, SAMPLE, SCORE, write_table
from fire_opd.report.page import try_page, write_page
from fire_opd.report.page.texts import pieces, texts_of
from fire_opd.report.page.trajectories import NUMBERS, trajectories
from fire_opd.stages import BASELINE, EVALUATE, PREPARE, ROUND, Job, Stage
from fire_opd.storage import Run, commit_stage
from tests.conftest import Assets, chromium
from tests.unit.report.test_report import GRADED, OTHERS

HOSTILE = '</script><img src=x onerror="window.taken=1"><b>&amp;'
LENGTHS = [3, 9, 5, 7]


def rows(schema: Any, number: int, **columns: list[Any]) -> Any:
    """A table of four trajectories; what is not given is null."""
    about = {"round": number, "sample": 0}
    made = [{**about, "prompt": f"p{place}"} for place in range(len(LENGTHS))]
    for name, values in columns.items():
        for row, value in zip(made, values, strict=True):
            row[name] = value
    return schema.empty_table().from_pylist(made, schema)


def lists(start: float) -> list[list[float]]:
    return [[start + place for place in range(length)] for length in LENGTHS]


@pytest.fixture
def run(assets: Assets, tmp_path: Path) -> Run:
    """One round of four trajectories, two of each domain, one of them dropped."""
    made = Run.create(tmp_path / "run", assets.spec("rounds.count=1"))
    domains = ["m", HOSTILE, "m", HOSTILE]
    tables = {
        "rollout": rows(
            ROLLOUT,
            1,
            domain=domains,
            teacher=["m", "c", "m", "c"],
            prompt_ids=[[4, 5, 6], [4, 5, 6], [7, 5, 6], [4, 5, 6]],
            response_ids=[list(range(4, 4 + length)) for length in LENGTHS],
            finish_reason=["stop", "length", "stop", "stop"],
        ),
        "score": rows(
            SCORE,
            1,
            correct=[True, False, None, True],
            **{name: lists(-2.0) for name in NUMBERS.values() if name in SCORE.names},
        ),
        "select": rows(
            BATCH,
            1,
            kept=[True, False, True, True],
            reason=[None, "filter", None, None],
            filter_score=[-0.5, -3.0, -0.25, float("nan")],
            **{name: lists(0.5) for name in NUMBERS.values() if name in BATCH.names},
        ),
    }
    files = {"rollout": "rollouts", "score": "scores", "select": "batch"}
    parts = {"m": GRADED, HOSTILE: GRADED}
    asked = [{"prompt": prompt, "prompt_ids": [4, 5]} for prompt in ("easy", "hard")]
    write(made, PREPARE, 0, {}, ("evaluation.parquet", PROMPT.empty_table().from_pylist(asked, PROMPT), PROMPT))
    for number in (0, 1):
        said = [
            {
                "prompt": prompt,
                "domain": "m",
                "k": GREEDY,
                "text": text,
                "answer": "2",
                "correct": correct,
                "read": True,
            }
            for prompt, text, correct in (("easy", "2", True), ("hard", HOSTILE, bool(number)))
        ]
        table = ("samples.parquet", SAMPLE.empty_table().from_pylist(said, SAMPLE), SAMPLE)
        write(made, EVALUATE, number, {**GRADED, "by_domain": parts}, table)
    for teacher in made.spec.teachers:
        write(made, BASELINE, 0, {**GRADED, "by_domain": parts}, teacher=teacher)
    for stage in ROUND:
        if stage.name in OTHERS:
            schema = {"rollout": ROLLOUT, "score": SCORE, "select": BATCH}.get(stage.name)
            table = (f"{files[stage.name]}.parquet", tables[stage.name], schema) if schema else None
            write(made, stage, 1, OTHERS[stage.name], table)
    return made


def write(
    run: Run,
    stage: Stage,
    number: int,
    metrics: dict[str, Any],
    table: tuple[Any, ...] | None = None,
    teacher: str = "",
) -> None:
    """The last output of a stage, as if it had run."""
    directory = Job(run, stage, number, teacher).directory(stage.outputs[-1].directory)
    about: dict[str, Any] = {"stage": stage.name, "revision": stage.revision, "round": number, "threads": 1}
    with commit_stage(directory, params={}, inputs={}, **about) as writer:
        writer.metrics |= metrics
        if table:
            name, made, schema = table
            write_table(writer.path / name, made, schema)


@pytest.fixture
def page(run: Run) -> Iterator[Page]:
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda request: problems.append(request.url) if "file:" not in request.url else None)
        page.goto(write_page(run).as_uri())
        yield page
        assert problems == []
        assert page.evaluate("window.taken") is None


def shown(page: Page) -> list[int]:
    """Lengths of the trajectories in the list."""
    return [int(text.split(" tokens")[0].split("· ")[-1]) for text in page.locator("#list li").all_inner_texts()]


def test_every_control(page: Page, run: Run) -> None:
    assert shown(page) == LENGTHS
    assert page.locator("section svg").count() == 4
    assert page.locator("svg image").count() == 0  # the page's policy would leave them empty
    expect(page.locator("#shown .token")).to_have_count(LENGTHS[0])
    for control, value, left in [
        ("domain", HOSTILE, [9, 7]),
        ("teacher", "m", [3, 5]),
        ("chosen", "dropped: filter", [9]),
        ("ended", "at max_tokens", [9]),
        ("verdict", "wrong", [9]),
        ("verdict", "not graded", [5]),
        ("round", "1", LENGTHS),
        ("order", "long", [9, 7, 5, 3]),
        ("order", "unlikely", [3, 5, 7, 9]),
    ]:
        page.locator(f"select[name={control}]").select_option(value)
        assert shown(page) == left
        page.locator(f"select[name={control}]").select_option("")
    page.locator("#list li").nth(2).click()
    expect(page.locator("#shown .token")).to_have_count(5)
    page.keyboard.press("j")
    expect(page.locator("#shown .token")).to_have_count(7)
    page.keyboard.press("k")
    page.keyboard.press("k")
    expect(page.locator("#shown")).to_contain_text("dropped: filter; filter score -3, threshold –")
    page.keyboard.press("l")
    page.keyboard.press("l")
    page.keyboard.press("h")
    expect(page.locator("#shown .token").first).to_be_focused()
    expect(page.locator("#numbers")).to_contain_text("teacher log-prob: -2 ·")
    first = page.locator("#shown .token").first
    assert "teacher log-prob: -2\n" in (first.get_attribute("title") or "")
    strong = first.evaluate("e => e.style.backgroundColor")
    page.locator("select[name=colour]").select_option("teacher log-prob")
    assert page.locator("#shown .token").first.evaluate("e => e.style.backgroundColor") != strong
    expect(page.locator("#legend")).to_contain_text("teacher log-prob")
    page.locator("select[name=colour]").select_option("divergence")
    expect(page.locator("#legend")).to_contain_text("divergence: orange above 0")
    page.locator("input[name=search]").fill(page.locator("#list li small").nth(2).inner_text())
    assert shown(page) == [5]  # the one whose prompt is another
    page.locator("input[name=search]").fill("no such text")
    expect(page.locator("#shown")).to_have_text("no trajectory is like that")


def test_the_page_opens_at_its_beginning_and_the_list_follows_the_keys(page: Page) -> None:
    """Choosing the first trajectory scrolled the whole page down to it."""
    page.set_viewport_size({"width": 1200, "height": 300})
    page.reload()
    expect(page.locator("#shown .token")).to_have_count(LENGTHS[0])
    assert page.evaluate("scrollY") == 0
    page.add_style_tag(content="#list { height: 4rem }")
    for key in "jjj":
        page.keyboard.press(key)
    inside = "li => li.getBoundingClientRect().top >= li.parentElement.getBoundingClientRect().top"
    assert page.locator("#list li[aria-selected=true]").evaluate(inside)
    assert page.evaluate("list.scrollTop") > 0
    assert page.evaluate("scrollY") == 0


def test_one_prompt_in_all_rounds(page: Page, run: Run) -> None:
    """The prompt of the trajectory that is shown, whatever the round; here three of the four have it."""
    page.locator("select[name=chosen]").select_option("dropped: filter")
    page.locator("input[name=same]").check()
    page.locator("select[name=chosen]").select_option("")
    assert shown(page) == [3, 9, 7]


def test_before_and_after(page: Page, run: Run) -> None:
    """Of two prompts one came right; the other was right, and is shown after it."""
    expect(page.locator(".headline")).to_contain_text("accuracy: 25.0% before, 25.0% after 1 round, best")
    expect(page.locator("header")).to_contain_text("accuracy +50 [+0, +100] points, the 95 % interval")
    rows = page.locator("#answers tbody tr")
    expect(rows).to_have_count(2)
    expect(rows.first.locator("b")).to_have_text(["wrong", "right"])
    expect(rows.first.locator("td pre").last).to_have_text(HOSTILE)
    expect(rows.last.locator("b")).to_have_text(["right", "right"])
    page.locator("select[name=change]").select_option("wrong right")
    expect(rows.first).to_be_visible()
    expect(rows.last).to_be_hidden()
    page.locator("select[name=change]").select_option("")
    expect(rows.last).to_be_visible()


def test_arrows_move_in_the_list_and_among_tokens_and_nowhere_else(page: Page) -> None:
    page.keyboard.press("ArrowDown")
    expect(page.locator("#shown .token")).to_have_count(LENGTHS[0])
    page.locator("#list").focus()
    page.keyboard.press("ArrowDown")
    expect(page.locator("#shown .token")).to_have_count(LENGTHS[1])
    page.keyboard.press("l")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#shown .token").nth(1)).to_be_focused()
    page.keyboard.press("ArrowUp")
    expect(page.locator("#shown .token")).to_have_count(LENGTHS[0])
    expect(page.locator("#list").get_by_role("option", selected=True)).to_have_count(1)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_both_schemes_have_colours_of_their_own(run: Run, scheme: Literal["light", "dark"]) -> None:
    with chromium() as browser:
        page = browser.new_page(color_scheme=scheme)
        page.goto(write_page(run).as_uri())
        text = page.evaluate("getComputedStyle(document.body).color")
        accent = page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--accent').trim()")
    assert (text, accent) == {"light": ("rgb(0, 0, 0)", "#0072b2"), "dark": ("rgb(255, 255, 255)", "#56b4e9")}[scheme]


def test_tokens_show_what_they_add_to_the_text() -> None:
    """Alone, a token of a byte-level vocabulary is half a character, and one of a metaspace vocabulary has no space."""
    halves = Tokenizer(models.BPE({byte: n for n, byte in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, []))
    halves.pre_tokenizer, halves.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    ids = halves.encode("é x").ids
    assert pieces(halves, ids[:0], ids) == ["", "é", " ", "x"]
    assert pieces(halves, ids[:1], ids[1:]) == ["é", " ", "x"]
    assert pieces(halves, [], [ids[0], ids[3]]) == ["", "\ufffdx"]  # no character at all
    spaced = Tokenizer(models.WordLevel({"▁one": 0, "▁two": 1, "s": 2}, "s"))
    spaced.decoder = decoders.Metaspace()
    assert pieces(spaced, [0], [1, 2, 0]) == [" two", "s", " one"]


def test_hostile_text_is_text(page: Page) -> None:
    assert HOSTILE in page.locator("select[name=domain]").inner_text()
    assert page.locator("#browser b, img").count() == 0


def test_larger_runs_are_thinned_evenly(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fire_opd.report.page.trajectories.SHOWN_TOKENS", 12)  # of 24
    assert [len(row["tokens"]) for row in trajectories(run, texts_of(run))["rows"]] == [LENGTHS[0], LENGTHS[-1]]


def test_a_page_that_cannot_be_written_is_a_warning(run: Run) -> None:
    run.path("rounds/1/scores/scores.parquet").unlink()
    warnings: list[str] = []
    assert try_page(run, warnings.append) is None
    [warning] = warnings
    assert warning.startswith("no page of the run: ")
