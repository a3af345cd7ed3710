"""What the demo with a real language model shows: KL, answers before and after, seconds and tokens a second by stage.

fire-opd demo-lm --run runs/demo-lm-0 [-S seed=1]        # one run a seed; needs the extra `lm`
python -m benchmarks.demo_lm runs/demo-lm-0 …            # docs/demo-lm.md, benchmarks/results/demo-lm.json

The figures of other seeds stay; stages, answers and picture are those of the first run that is given.
"""

import argparse
import json
import re
import shutil
import statistics
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.pages import conditions, put
from fire_opd.records import PROMPT, SAMPLE, read_table
from fire_opd.report import PICTURE, summarize, write_report
from fire_opd.report.page.answers import answers, difference
from fire_opd.report.page.texts import texts_of
from fire_opd.runtime.ledger import read_attempts
from fire_opd.stages import EVALUATE, Job
from fire_opd.storage import Run

ROOT = Path(__file__).parents[1]
PAGE, DRAWN = ROOT / "docs" / "demo-lm.md", ROOT / "docs" / "demo-lm.png"
RESULT = Path(__file__).parent / "results" / "demo-lm.json"
BEGIN, END = "<!-- the figures -->\n", "<!-- written by benchmarks/demo_lm.py -->\n"
_ANSWERS, _LONGEST = 6, 160
_ASKED = re.compile(r"<\|im_start\|>user\n(.*?)<\|im_end\|>", re.DOTALL)


def main() -> None:
    """Read the runs, write figures and page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="folders of finished runs, one a seed")
    runs = [Run.open(folder) for folder in parser.parse_args().runs]
    here = conditions()
    known = json.loads(RESULT.read_text())["runs"] if RESULT.is_file() else []
    by_seed = {run["seed"]: run for run in known} | {run.spec.seed: figures(run) | here for run in runs}
    result = {
        **here,
        "runs": [by_seed[seed] for seed in sorted(by_seed)],
        "shown": runs[0].spec.seed,
        "answers": spoken(runs[0]),
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    write_report(runs[0])
    shutil.copyfile(runs[0].path(PICTURE), DRAWN)
    put(PAGE, BEGIN, END, table(result))


def figures(run: Run) -> dict[str, Any]:
    """Of one run: reverse KL of each round's rollouts, accuracy, and of each stage seconds and tokens a second."""
    summary = summarize(run)
    rounds = summary["rounds"][1:]
    sampled = statistics.median(found["length"] * run.spec.rounds.rollouts for found in rounds)
    trained = statistics.median(found["tokens"] for found in rounds)
    stages = {}
    for stage, tokens in (("rollout", sampled), ("score", sampled), ("train", trained), ("evaluate", 0)):
        attempts = [read_attempts(run.path(f"ledger/{found['round']}/{stage}.json"))[-1] for found in rounds]
        seconds = statistics.median(attempt["seconds"] for attempt in attempts)
        stages[stage] = {"seconds": round(seconds, 1), "tokens_a_second": round(tokens / seconds)}
    return {
        "seed": run.spec.seed,
        "method": run.spec.method.name,
        "reverse_kl": [round(found["reverse_kl"], 4) for found in rounds],
        "held_out_kl": [held_out_kl(run, number) for number in (0, rounds[-1]["round"])],
        "accuracy": [round(found["held_out"]["value"], 4) for found in summary["rounds"]],
        "difference": difference(run, rounds[-1]["round"]),
        "teacher": {name: found["held_out"]["value"] for name, found in summary["teachers"].items()},
        "minutes": round(summary["seconds"] / 60, 1),
        "stages": stages,
    }


def held_out_kl(run: Run, number: int) -> float:
    """Reverse KL, nat a token: mean over the tokens of a round's answers to the held-out questions, of whole
    distributions, by transformers.
    """
    folder = Job(run, EVALUATE, number).directory(EVALUATE.outputs[-1].directory)
    rows = read_table(folder / "samples.parquet", SAMPLE, ["prompt", "text", "finish_reason"]).to_pylist()
    asked = read_table(run.path("prompts/evaluation.parquet"), PROMPT, ["prompt", "prompt_ids"]).to_pylist()
    prompts = {row["prompt"]: row["prompt_ids"] for row in asked}
    paths = run.path(f"rounds/{number}/checkpoint"), next(iter(run.spec.teachers.values())).path
    student, teacher = (AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval() for path in paths)
    total, tokens = 0.0, 0
    tokenizer = AutoTokenizer.from_pretrained(paths[0])
    for row in rows:
        said = tokenizer.encode(row["text"], add_special_tokens=False)
        said += [tokenizer.eos_token_id] if row["finish_reason"] == "stop" else []
        ids, first = torch.tensor([prompts[row["prompt"]] + said]), len(prompts[row["prompt"]]) - 1
        with torch.no_grad():
            p_TV, q_TV = (model(ids).logits[0, first:-1].log_softmax(-1) for model in (student, teacher))
        total += float((p_TV.exp() * (p_TV - q_TV)).sum())
        tokens += len(said)
    return round(total / tokens, 4)


def spoken(run: Run) -> list[dict[str, Any]]:
    """Some held-out answers before and after, evenly over the set."""
    found = answers(run, run.spec.rounds.count, texts_of(run))
    return sorted(found, key=lambda row: row["prompt"])[:: -(-len(found) // _ANSWERS)]


def table(result: dict[str, Any]) -> str:
    """Figures and answers in Markdown."""
    lines = [f"{result['date']}, {result['machine']}; raw figures: [demo-lm.json](../benchmarks/results/demo-lm.json)."]
    lines += [
        "",
        "| seed | KL of rollouts, first and last round | KL of held-out answers, before and after "
        "| right, before and after | teacher | minutes | on |",
    ]
    lines += ["|---|---|---|---|---|---|---|"]
    for run in result["runs"]:
        kl, right, teacher = run["reverse_kl"], run["accuracy"], next(iter(run["teacher"].values()))
        before, after = run["held_out_kl"]
        lines.append(
            f"| {run['seed']} | {kl[0]:.2f} → {kl[-1]:.2f} | {before:.2f} → {after:.2f} "
            f"| {right[0]:.0%} → {right[-1]:.0%} ({run['difference']}) | {teacher:.0%} "
            f"| {run['minutes']:.0f} | {run['date']} |"
        )
    shown = next(run for run in result["runs"] if run["seed"] == result["shown"])
    lines += ["", f"| stage, seed {shown['seed']} | seconds | tokens a second |", "|---|---|---|"]
    for stage, found in shown["stages"].items():
        lines.append(f"| {stage} | {found['seconds']} | {found['tokens_a_second'] or '–'} |")
    lines += ["", "| asked | before | after |", "|---|---|---|"]
    lines += [
        f"| {' | '.join(_cell(row, part) for part in ('prompt', 'before', 'after'))} |" for row in result["answers"]
    ]
    return "\n".join([*lines, ""])


def _cell(row: dict[str, Any], part: str) -> str:
    said = _ASKED.findall(row[part])[-1] if part == "prompt" else row[part]["text"]
    text = " ".join(said.split()).replace("|", "\\|").replace("<", "&lt;")
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


if __name__ == "__main__":
    main()
