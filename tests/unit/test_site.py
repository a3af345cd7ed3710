"""The pages as a site: everything that is linked is there, nothing is loaded from elsewhere, no block is misread."""

import os
import re
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from tests.newcomer.pages import PAGES, ROOT

DOCS = ROOT / "docs"
COUNTED = ("li", "tr", "pre", "h1", "h2", "h3", "code", "strong", "em", "img", "p", "a")


def build(config: Path, site: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(config), "-d", str(site)]
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=env, timeout=300)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = build(ROOT / "mkdocs.yml", folder)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


class Elements(HTMLParser):
    """Elements of an article, and all that a page loads."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.counts, self.loads, self.inside = Counter[str](), list[str](), False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if "src" in given or (tag == "link" and given.get("rel") not in ("prev", "next", "canonical")):
            self.loads.append(given.get("src") or given["href"])
        self.inside |= tag == "article"
        self.counts[tag] += (
            self.inside and "headerlink" not in given.get("class", "") and (tag != "a" or "href" in given)
        )

    def handle_endtag(self, tag: str) -> None:
        self.inside &= tag != "article"


def test_every_page_is_there(site: Path) -> None:
    made = {file.relative_to(site).with_suffix(".md") for file in site.rglob("*.html")}
    assert {page.relative_to(DOCS) for page in PAGES if DOCS in page.parents} <= made
    assert Path("repository/README.md") in {
        *made,
        *(file.parent / "README.md" for file in made if file.stem == "index"),
    }


@pytest.mark.parametrize("page", [page for page in PAGES if DOCS in page.parents], ids=lambda page: page.stem)
def test_the_site_reads_a_page_as_the_repository_does(site: Path, page: Path) -> None:
    """Python-Markdown, which makes the site, is no CommonMark: a list without a blank line before it is text there."""
    ours = Elements(f"<article>{MarkdownIt('commonmark').enable('table').render(page.read_text())}</article>").counts
    theirs = Elements((site / page.relative_to(DOCS).with_suffix(".html")).read_text()).counts
    assert {tag: theirs[tag] for tag in COUNTED} == {tag: ours[tag] for tag in COUNTED}


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    pages = {file: file.read_text() for file in site.rglob("*.html")}
    assert [load for text in pages.values() for load in Elements(text).loads if re.match(r"[a-z]+:|//", load)] == []
    assert not any('class="mermaid"' in text for text in pages.values())  # only such a page makes the script load more
    styles = [
        link for file in site.rglob("*.css") for link in re.findall(r"(?:url\(|@import )([^)]*)", file.read_text())
    ]
    assert [link for link in styles if re.match(r"""["']?(https?:|//)""", link)] == []


@pytest.mark.parametrize(
    ("link", "said"),
    [
        ("[x](../no/such.py)", "docs/index.md names no/such.py, which is no file of the repository"),
        ("[x](no-such.md)", "no-such.md"),
        ("[x](#no-such)", "#no-such"),
    ],
)
def test_a_link_that_leads_nowhere_is_not_let_pass(tmp_path: Path, link: str, said: str) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text(f"# A page\n\n{link}\n")
    settings = re.sub(r"(?s)\nnav:\n  - .*|\nextra_css:[^\n]*", "", (ROOT / "mkdocs.yml").read_text())
    (tmp_path / "mkdocs.yml").write_text(settings.replace("infra/site_links.py", str(ROOT / "infra" / "site_links.py")))
    done = build(tmp_path / "mkdocs.yml", tmp_path / "site")
    assert done.returncode == 1
    assert said in done.stderr
