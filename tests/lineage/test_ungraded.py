"""A recorded run on an open-ended held-out set, which has no answers: its figure is the reverse KL to the teachers.

It is judged every second round.
"""

import csv
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from fire_opd.evaluation.divergence import read_divergence
from fire_opd.evaluation.figure import DIVERGENCE
from fire_opd.evaluation.gate import judge
from fire_opd.records import ROLLOUT, read_table
from fire_opd.spec import GateSpec
from fire_opd.storage import Run, directory_digest
from tests.conftest import Assets
from tests.lineage.conftest import Machine, make_machine

pytestmark = pytest.mark.long

PROMPTS = [f"{'MC'[n % 2]}{n}+{n}=" for n in range(20)]


@dataclass(frozen=True)
class Finished:
    """A recorded run that is complete, and what the command printed."""

    machine: Machine
    run: Run
    printed: str


@pytest.fixture(scope="module")
def finished(assets: Assets, prefect_api: str, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Two rounds; no held-out prompt has an answer, each domain has a teacher; the student of round 1 is not judged."""
    folder = tmp_path_factory.mktemp("ungraded")
    rows = [{"prompt": prompt, "domain": prompt[0].lower()} for prompt in PROMPTS]
    (folder / "held-out.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    machine = make_machine(folder / "machine", str(folder / "store"), PREFECT_API_URL=prefect_api)
    overrides = (
        *("rounds.count=2", "evaluation.grader=none", "evaluation.greedy=false", "evaluation.k=2"),
        *(f"evaluation.path={folder}/held-out.jsonl", "evaluation.max_tokens=8", "evaluation.every=2"),
    )
    printed = machine.demo(assets, "open", *overrides)
    return Finished(machine, machine.run("open"), printed)


def summary(finished: Finished) -> dict[str, Any]:
    """What `report/summary.json` says."""
    found: dict[str, Any] = json.loads(finished.run.path("report/summary.json").read_text())
    return found


def logprobs(path: Path, prompt: list[int], response: list[int]) -> list[float]:
    """Of a response by a plain forward pass of the model in `path`."""
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    with torch.no_grad():
        logits = model(torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1, :64]
        found: list[float] = logits.log_softmax(-1).gather(1, torch.tensor(response)[:, None])[:, 0].tolist()
    return found


@pytest.mark.parametrize("number", [0, 2])
def test_the_figure_is_that_of_the_models_themselves(finished: Finished, number: int) -> None:
    answers = read_table(finished.run.path(f"rounds/{number}/evaluation/rollouts.parquet"), ROLLOUT).to_pylist()
    assert [answer["teacher"] for answer in answers[::2]] == ["m", "c"] * 10
    by_prompt: dict[str, list[float]] = {}
    for answer in answers[:8]:  # four prompts are enough to see whose log-probs these are
        given = answer["prompt_ids"], answer["response_ids"]
        student = logprobs(finished.run.path(f"rounds/{number}/checkpoint"), *given)
        teacher = logprobs(Path(finished.run.spec.teachers[answer["teacher"]].path), *given)
        by_prompt.setdefault(answer["prompt"], []).extend(np.subtract(student, teacher).tolist())
    _, found = read_divergence(finished.run.path(f"rounds/{number}/evaluation"))
    names = sorted({answer["prompt"] for answer in answers})
    for prompt, differences in by_prompt.items():
        assert found[names.index(prompt)] == pytest.approx(np.mean(differences), abs=1e-4)
    assert summary(finished)["rounds"][number]["held_out"]["value"] == pytest.approx(found.mean())


def test_log_table_and_files_name_it(finished: Finished) -> None:
    printed = finished.printed
    assert "round 0/2: held-out KL" in printed
    assert "round 1/2: not evaluated" in printed
    assert "round 2/2: held-out KL" in printed
    assert "held-out KL to the teacher (nat a token, lower is better)" in printed
    assert "accuracy" not in printed
    assert "unreadable" not in printed
    found = summary(finished)
    assert [figures["held_out"]["figure"] for figures in found["rounds"]] == ["held-out KL"] * 3
    assert set(found["rounds"][2]["held_out"]["by_domain"]) == {"m", "c"}
    assert all(teacher["held_out"]["value"] is None for teacher in found["teachers"].values())
    with finished.run.path("report/rounds.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["accuracy"] for row in rows] == ["", "", ""]
    values = [figures["held_out"]["value"] for figures in found["rounds"]]
    assert [None if row["held_out"] == "nan" else float(row["held_out"]) for row in rows] == values
    assert values[1] is None
    assert finished.run.path("report/curves.png").stat().st_size > 0


def test_the_gate_judges_by_it(finished: Finished) -> None:
    verdict = judge(*(finished.run.path(f"rounds/{n}/evaluation") for n in (0, 2)), GateSpec(margin_nat=10))
    assert verdict.figure is DIVERGENCE
    assert verdict.low < verdict.new - verdict.promoted < verdict.high
    assert not verdict.reasons or all(reason.startswith("domain") for reason in verdict.reasons)


def test_the_record_holds_it(finished: Finished) -> None:
    assert "up to date" in finished.machine.dvc("open", "status")
    line = next(line for line in finished.machine.fire_opd("runs").splitlines() if line.split()[:1] == ["open"])
    values = [f"{figures['held_out']['value']:.3f}" for figures in summary(finished)["rounds"][::2]]
    assert " ".join(line.split()).count(f"held-out KL {values[0]} {values[1]}") == 1
    assert f"held-out KL {values[0]} → {values[1]}" in finished.machine.fire_opd("explain", "open")
    assert "all digests are equal" in finished.machine.fire_opd("reproduce", "open")


def test_the_stage_alone_gives_the_same_bytes(finished: Finished) -> None:
    appraisal = finished.run.path("rounds/2/appraisal")
    before = directory_digest(appraisal)
    shutil.rmtree(appraisal)
    command = ("appraise", "--run", str(finished.run.folder), "--round", "2")
    assert "up to date" not in finished.machine.fire_opd(*command)
    assert directory_digest(appraisal) == before
    assert "up to date" in finished.machine.fire_opd(*command)
