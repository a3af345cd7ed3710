"""What the committed studies found: figures, picture and verdict of finished studies, for docs/study.md.

python -m benchmarks.study_results runs/demo-mixed runs/demo-clean runs/demo-lm      # what `make study` ran

Studies that are not given stay as they were.
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from benchmarks.pages import put
from fire_opd.study.compare import Pair
from fire_opd.study.report import JSON, PICTURE, arms_table, basis, markdown, pairs_table

ROOT = Path(__file__).parents[1]
PAGE, RESULTS = ROOT / "docs" / "study.md", Path(__file__).parent / "results"
BEGIN, END = "<!-- the studies -->\n", "<!-- written by benchmarks/study_results.py -->\n"
STUDIES = {
    "demo-mixed": "Prompts of which 30 % are beyond the teachers",
    "demo-clean": "Prompts that the teachers were all taught",
    "demo-lm": "The language model",
}


def main() -> None:
    """Copy what the studies wrote, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", type=Path, nargs="+", help="folders of finished studies")
    for folder in parser.parse_args().studies:
        summary = json.loads((folder / JSON).read_text())
        if summary["finished"] < summary["runs"]:
            raise SystemExit(f"{folder}: {summary['finished']} of {summary['runs']} runs are finished; finish it first")
        shutil.copyfile(folder / JSON, RESULTS / f"study-{summary['study']}.json")
        shutil.copyfile(folder / PICTURE, PAGE.parent / f"study-{summary['study']}.png")
    put(PAGE, BEGIN, END, "\n\n".join(section(name) for name in STUDIES if result(name).is_file()) + "\n")


def result(name: str) -> Path:
    """The committed figures of a study."""
    return RESULTS / f"study-{name}.json"


def section(name: str) -> str:
    """One study in Markdown: what it stands on, verdict, arms, and the pairs that differ."""
    summary: dict[str, Any] = json.loads(result(name).read_text())
    pairs = [Pair(**pair) for pair in summary["pairs"]]
    raw = f"[study-{name}.json](../benchmarks/results/study-{name}.json)"
    parts = [
        f"### {STUDIES[name]}",
        f"`benchmarks/studies/{name}.yaml`: {basis(summary)} Every figure, of each round too: {raw}.",
        "\n".join(f"- {sentence}" for sentence in summary["verdict"]),
        markdown(arms_table(summary, pairs)),
        f"![{summary['figure']} by updates, rollouts and seconds](study-{name}.png)",
        *([markdown(found)] if len(found := pairs_table(summary, [pair for pair in pairs if pair.better])) > 1 else []),
    ]
    return "\n\n".join(parts)


if __name__ == "__main__":
    main()
