"""The drawing in docs/architecture.md is what the code imports."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^(\S+(?: · \S+)*) {2,}(\S.*?)(?: {2,}(\S.*))?$", re.MULTILINE)
LIBRARIES = {"vllm", "deepspeed", "dvc", "prefect", "fsspec", "s3fs", "peft", "ray"}
TOP = ("infra", "flows", "tasks")


def drawing() -> list[tuple[list[str], set[str]]]:
    """Parts and libraries of each row."""
    text = (ROOT / "docs" / "architecture.md").read_text().split("```")[1].removeprefix("text\n")
    rows = [(row[1].split(" · "), set((row[3] or "").split())) for row in ROW.finditer(text)]
    assert len(rows) == len(text.splitlines())
    return rows


def part_of(module: str) -> str:
    """The part of the drawing that a module belongs to."""
    first, _, rest = module.partition(".")
    return rest.partition(".")[0] if first == "fire_opd" else first


def imports() -> Iterator[tuple[str, str]]:
    """Part, and imported module, of all imports of the project."""
    for folder in (*TOP, "fire_opd"):
        for file in (ROOT / folder).rglob("*.py"):
            part = part_of(".".join(file.relative_to(ROOT).with_suffix("").parts))
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.ImportFrom) and node.module:
                    yield part, node.module
                elif isinstance(node, ast.Import):
                    yield from ((part, alias.name) for alias in node.names)


def test_the_drawing_has_every_part_once_in_the_order_of_the_contracts() -> None:
    drawn = [part for parts, _ in drawing() for part in parts]
    there = {path.name.removesuffix(".py") for path in (ROOT / "fire_opd").iterdir() if path.name[0] not in "._"}
    assert sorted(drawn) == sorted({*TOP, *there})
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(c["layers"] for c in contracts if c["name"] == "inside the library")
    assert [" | ".join(parts) for parts, _ in drawing() if parts[0] not in TOP] == layers


def test_rows_import_rows_below_only() -> None:
    level = {part: number for number, (parts, _) in enumerate(drawing()) for part in parts}
    wrong = [(a, m) for a, m in imports() if (b := part_of(m)) in level and b != a and level[a] >= level[b]]
    assert wrong == []


def test_libraries_are_spoken_to_where_the_drawing_says() -> None:
    found = {(part, module.partition(".")[0]) for part, module in imports()}
    spoken = {library: {part for part, name in found if name == library} for library in LIBRARIES}
    for parts, libraries in drawing():
        here = {library for library, speakers in spoken.items() if speakers & set(parts)}
        assert here == libraries, parts
