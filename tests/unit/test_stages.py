"""The table of stages is the contract of flow and command line."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from typer.main import get_command

import flows.distill
from fire_opd.cli import app
from fire_opd.spec import spec_values
from fire_opd.stages import ROUND, STAGES, START, UNGRADED, Job, judging, last_directory
from fire_opd.storage import Run, commit_stage
from tests.conftest import Assets


@dataclass
class Noted:
    """In the place of a task: notes the job instead of doing it."""

    name: str
    jobs: list[tuple[str, int]]

    def __call__(self, crew: Any, round: int) -> None:
        self.jobs.append((self.name, round))

    def submit(self, crew: Any, round: int, wait_for: Sequence[Any] = ()) -> Mock:
        """Done at the latest possible time: when it is waited for."""
        return Mock(result=lambda: self(crew, round))


@pytest.mark.parametrize("grader", ["exact", "none"])
@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("staleness", [0, 1])
def test_the_flow_runs_every_stage_when_its_inputs_are_there(
    assets: Assets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, staleness: int, grader: str, every: int
) -> None:
    graded = [f"evaluation.grader={grader}", *(["evaluation.greedy=false"] if grader == "none" else [])]
    spec = assets.spec("rounds.count=3", f"rounds.staleness={staleness}", f"evaluation.every={every}", *graded)
    run, jobs, finished = Run.create(tmp_path / "run", spec), list[tuple[str, int]](), list[int]()
    for stage in (*ROUND, *UNGRADED):
        monkeypatch.setattr(flows.distill, stage.name, Noted(stage.name, jobs))
    order = flows.distill._a_round_ahead if staleness else flows.distill._in_turn
    order(Mock(run=run), finished.append)
    assert finished == [0, 1, 2, 3]
    judges = ("evaluate", *(() if spec.evaluation.graded else ("appraise",)))
    judged = {(name, n) for name in judges for n in (0, 1, 2, 3) if every == 1 or n != 1}
    assert sorted(jobs) == sorted({(stage.name, n) for stage in ROUND[:-1] for n in (1, 2, 3)} | judged)
    there = {run.path(output.directory.format(teacher="m")) for stage in START for output in stage.outputs}
    for job in (Job(run, STAGES[name], n) for name, n in jobs):
        for output in job.stage.outputs:
            wanted = {job.directory(source) for source in output.inputs if ":" not in source}
            assert wanted <= there, f"{job.stage.name} of round {job.round}: no {wanted - there}"
            there.add(job.directory(output.directory))
    if staleness:  # while a round is trained, the next one is sampled
        assert jobs.index(("rollout", 3)) < jobs.index(("train", 2))


def test_the_command_line_has_every_stage() -> None:
    assert get_command(app).commands.keys() >= STAGES.keys()  # type: ignore[attr-defined]


def test_every_parameter_is_a_field_and_none_is_a_path(assets: Assets) -> None:
    spec = assets.spec()
    for stage in STAGES.values():
        values = spec_values(spec, stage.params)
        assert str(assets.demo.root) not in str(values), stage.name


def test_a_round_reads_only_what_was_written_before() -> None:
    written = {output.directory for stage in START for output in stage.outputs}
    written |= {"rounds/{m}/trainer", "rounds/{m}/checkpoint", "rounds/{s}/checkpoint"}
    for stage in (*ROUND, *UNGRADED):
        for output in stage.outputs:
            stages = {source for source in output.inputs if ":" not in source}
            assert stages <= written, f"{stage.name} reads {stages - written}"
            written.add(output.directory)


@pytest.mark.parametrize(
    ("change", "stages"),
    [
        ("filter.percentile=10", {"select"}),  # what follows changes by its inputs' digests
        ("sampling.truncated=drop", {"select"}),
        ("scoring.max_mismatch=0.5", set()),  # a bound that scores which are there have passed
        ("scoring.head_chunk=7", {"score", "appraise"}),
        ("sampling.max_tokens=7", {"prepare", "baseline", "rollout", "evaluate"}),
        ("rounds.chunk=32", {"rollout", "score", "evaluate"}),
        ("placement.sampler.memory=0.5", set()),
        ("storage.trainer_states=all", set()),
        ("storage.state_every=2", {"train"}),
    ],
)
def test_a_change_throws_away_only_what_it_decides(assets: Assets, change: str, stages: set[str]) -> None:
    specs = assets.spec(), assets.spec(change)
    changed = {s.name for s in STAGES.values() if spec_values(specs[0], s.params) != spec_values(specs[1], s.params)}
    assert changed == stages


def test_a_round_is_complete_when_its_held_out_figure_is_there(assets: Assets) -> None:
    ungraded = assets.spec("evaluation.grader=none", "evaluation.greedy=false")
    assert last_directory(assets.spec(), 2) == "rounds/2/evaluation"
    assert last_directory(ungraded, 2) == "rounds/2/appraisal"


def test_evaluated_every_so_many_rounds(assets: Assets) -> None:
    spec = assets.spec("rounds.count=5", "evaluation.every=2")
    assert [spec.evaluated_at(n) for n in range(6)] == [0, 0, 2, 2, 4, 5]
    assert [[stage.name for stage in judging(spec, n)] for n in (0, 1, 2, 5)] == [["evaluate"], [], *[["evaluate"]] * 2]
    assert last_directory(spec, 3) == "rounds/3/checkpoint"


def test_another_grader_leaves_the_training_as_it_is(assets: Assets) -> None:
    """But without one the held-out prompts need teachers, which `prepare` finds."""
    specs = [assets.spec("evaluation.greedy=false", f"evaluation.grader={name}") for name in ("exact", "math", "none")]
    values = [{s.name: spec_values(spec, s.params) for s in STAGES.values()} for spec in specs]
    assert {name for name in STAGES if values[0][name] != values[1][name]} == {"baseline", "evaluate"}
    assert {name for name in STAGES if values[0][name] != values[2][name]} == {"prepare", "baseline", "evaluate"}


def test_chunks_cover_the_round_and_replicas_decide_nothing(assets: Assets, tmp_path: Path) -> None:
    """A manifest from before there were chunks stays valid where there are none."""
    whole = Job(Run.create(tmp_path / "whole", assets.spec()), STAGES["rollout"], 1)
    assert whole.chunks == []
    specs = [assets.spec("rounds.chunk=24", f"placement.sampler.replicas={n}") for n in (1, 3)]
    jobs = [Job(Run.create(tmp_path / str(n), spec), STAGES["rollout"], 1) for n, spec in enumerate(specs)]
    assert [chunk.rows for chunk in jobs[0].chunks] == [slice(0, 24), slice(24, 48), slice(48, 64)]
    for job in (whole, *jobs):
        for directory in ("prompts", "rounds/0/checkpoint"):
            about = {"stage": "any", "revision": 1, "round": 0, "params": {}, "inputs": {}, "threads": 1}
            with commit_stage(job.run.path(directory), **about):
                pass
    output = STAGES["rollout"].outputs[0]
    assert "rounds.chunk" not in whole.identity(output)["params"]
    assert jobs[0].identity(output) == jobs[1].identity(output)
    assert jobs[0].identity(output)["params"]["rounds.chunk"] == 24
    parts = [chunk.identity(output)["params"]["chunk"] for chunk in jobs[0].chunks]
    assert parts == [0, 1, 2]


def test_training_since_the_last_state_that_was_written(assets: Assets, tmp_path: Path) -> None:
    """A manifest from before states could be left out stays valid where each is written."""
    run = Run(tmp_path, assets.spec("rounds.count=5", "storage.state_every=3"))
    jobs = [Job(run, STAGES["train"], number) for number in range(1, 6)]
    assert [job.writes_state for job in jobs] == [False, False, True, False, True]
    assert [[since.round for since in job.since_state] for job in jobs] == [[1], [1, 2], [1, 2, 3], [4], [4, 5]]
    assert run.spec.written_states == [3, 5]
    each = Run(tmp_path, assets.spec("rounds.count=5"))
    jobs = [Job(each, STAGES["train"], number) for number in range(1, 6)]
    assert all(job.writes_state and job.since_state == [job] for job in jobs)
    assert each.spec.written_states is None
    for directory in ("rounds/1/rollouts", "rounds/1/scores", "rounds/1/batch", "rounds/0/trainer"):
        about = {"stage": "any", "revision": 1, "round": 0, "params": {}, "inputs": {}, "threads": 1}
        with commit_stage(tmp_path / directory, **about):
            pass
    output = STAGES["train"].outputs[0]
    assert "written_states" not in jobs[0].identity(output)["params"]
    assert Job(run, STAGES["train"], 1).identity(output)["params"]["written_states"] == [3, 5]


def test_methods_that_ask_for_the_same_scores_share_them(assets: Assets) -> None:
    """And a batch of REOPOLD, whose phases depend on it, knows how long the run is; no other's does."""

    def values(stage: str, *overrides: str) -> dict[str, object]:
        spec = assets.spec(*overrides)
        return {**spec_values(spec, STAGES[stage].params)}

    scores = {name: values("score", f"method.name={name}") for name in ("fire", "opd", "reverse_kl", "reopold", "tip")}
    assert all(scores[name] == scores["fire"] for name in ("opd", "reverse_kl", "reopold"))
    assert scores["tip"] != scores["fire"]
    fixed = "train.total_updates=100"
    for name, depends in (("fire", False), ("reopold", True)):
        pair = [values("select", f"method.name={name}", f"rounds.count={count}", fixed) for count in (3, 5)]
        assert (pair[0] != pair[1]) == depends
    assert values("select")["counted_rounds"] is None
