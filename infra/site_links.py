"""Links that leave docs/ lead, on the site, to a page with the file they name; a hook of MkDocs (mkdocs.yml).

In the repository the same links lead to the files themselves. One that leads nowhere is a warning, which `make docs`
does not let pass.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import get_plugin_logger
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
SHOWN = "repository/"  # the folder of the site for files that are not in docs/
_LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^()\s#]+)(?=(?:#[^()\s]*)?\))")
_LANGUAGES = {".py": "python", ".yaml": "yaml", ".json": "json", ".sh": "bash"}
_say = get_plugin_logger(__name__)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for every file that a page names, and for what such a page names in turn."""
    texts = {f"docs/{file.src_uri}": file.content_string for file in files.documentation_pages()}
    read, made = list(texts.items()), set[str]()
    while read:
        where, text = read.pop()
        for name in set(_outside(where, text)) - made:
            if not (ROOT / name).is_file():
                _say.warning("%s names %s, which is no file of the repository", where, name)
                continue
            made.add(name)
            shown = (ROOT / name).read_text()
            files.append(File.generated(config, SHOWN + _page(name), content=_shown(name, shown)))
            if name.endswith(".md"):
                read.append((name, shown))
    return files


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Turn the links of a page that lies in the repository into those of the site."""
    here = page.file.src_uri
    where = here.removeprefix(SHOWN) if here.startswith(SHOWN) else f"docs/{here}"
    if not (ROOT / where).is_file():
        return markdown  # made by `_shown` of a file that is no page
    folder = os.path.dirname(here) or "."

    def turned(link: re.Match[str]) -> str:
        name = _target(where, link[1])
        return os.path.relpath(name.removeprefix("docs/") if name.startswith("docs/") else SHOWN + _page(name), folder)

    return _LINK.sub(turned, markdown)


def _outside(where: str, text: str) -> Iterator[str]:
    """Files outside docs/ that a page names."""
    names = (_target(where, link[1]) for link in _LINK.finditer(text))
    return (name for name in names if not name.startswith("docs/"))


def _target(where: str, link: str) -> str:
    """The file that a link means, from the top of the repository."""
    return os.path.normpath(PurePosixPath(where).parent / link)


def _page(name: str) -> str:
    """The page of a file: all of its name, since `a.py` and `a.yaml` may be neighbours."""
    return name if name.endswith(".md") else f"{name}.md"


def _shown(name: str, text: str) -> str:
    """The text of such a page, which the search leaves out: a page as it is, any other file as a block."""
    head = "---\nsearch: {exclude: true}\nhide: [navigation]\n---\n\n"
    if name.endswith(".md"):
        return head + text
    fence = "`" * (1 + max(map(len, re.findall("`{3,}", text)), default=2))
    language = _LANGUAGES.get(Path(name).suffix, "text")
    return f"{head}# {Path(name).name}\n\n`{name}` in the repository:\n\n{fence}{language}\n{text.rstrip()}\n{fence}\n"
