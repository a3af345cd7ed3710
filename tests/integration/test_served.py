"""A teacher behind a real vLLM server: the scorer's own numbers, a proof of what answers, and nothing lost with it."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from fire_opd.demo.models import EOS, VOCABULARY
from fire_opd.engines.crew import Crew
from fire_opd.errors import TeacherError, TeacherUnreachable
from fire_opd.generation import Request
from fire_opd.records import SCORE, read_table
from fire_opd.report.page.charts import weights
from fire_opd.report.page.trajectories import trajectories
from fire_opd.runtime.tick import no_tick
from fire_opd.scores import Scorer, keep_distribution, score_round
from fire_opd.served import ServedSampler
from fire_opd.spec import RunSpec
from fire_opd.storage import Run, read_manifest
from tests.conftest import Assets
from tests.unit.scores.test_scores import naive, write_rollouts

pytestmark = pytest.mark.long

_START = 300  # seconds; 30 on an idle machine
_ENVIRONMENT = {"VLLM_CPU_KVCACHE_SPACE": "1", "TORCHDYNAMO_DISABLE": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
_OPTIONS = ("--dtype=float32", "--enforce-eager", "--max-model-len=128", "--max-logprobs=-1", "--max-num-seqs=16")
EOS_ID = VOCABULARY.index(EOS)
BOUND = 1e-5  # nat a token, fp32


@pytest.fixture(scope="module")
def server(assets: Assets, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """The address of a server that has teacher m, and the group of its processes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # What `vllm serve` starts; that command asks for the version of a distribution `vllm`, which is vllm-cpu here.
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--host=127.0.0.1", f"--port={port}"]
    log = tmp_path_factory.mktemp("server") / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, f"--model={assets.demo.teachers['m']}", "--served-model-name=m", *_OPTIONS],
            env={**os.environ, **_ENVIRONMENT},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        until = time.monotonic() + _START
        while True:
            assert process.poll() is None, log.read_text()[-2000:]
            assert time.monotonic() < until, log.read_text()[-2000:]
            try:
                httpx.get(f"http://127.0.0.1:{port}/v1/models").raise_for_status()
                break
            except httpx.HTTPError:
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}", process.pid
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def served(assets: Assets, url: str, *overrides: str) -> RunSpec:
    """Teacher m behind the server, c on this machine."""
    return assets.spec(f"placement.servers.m={{url: {url}, timeout: 10}}", *overrides)


@pytest.mark.parametrize("method", ["opd", "fire", "fire_kl"])
def test_scores_are_those_of_the_scorer(assets: Assets, server: tuple[str, int], tmp_path: Path, method: str) -> None:
    specs = {"here": assets.spec(f"method.name={method}"), "there": served(assets, server[0], f"method.name={method}")}
    rollouts, tables, distributions = write_rollouts(tmp_path / "in", specs["here"]), {}, {}
    for name, spec in specs.items():
        out, kept = tmp_path / name, tmp_path / name / "distribution"
        kept.mkdir(parents=True)
        scorer = Scorer(spec)
        scorer.prove_servers(tmp_path / "cache" / "digests.json", no_tick)
        if method == "fire_kl":
            keep_distribution(scorer, spec, rollouts, kept, no_tick)
            distributions[name] = np.load(kept / "m.npy")
        metrics = score_round(scorer, spec, rollouts, out, no_tick, kept if method == "fire_kl" else None)
        assert (metrics["teacher_entropy"] is None) == (name == "there" and method == "opd")
        tables[name] = read_table(out / "scores.parquet", SCORE).to_pylist()
    for here, there in zip(tables["here"], tables["there"], strict=True):
        for column in ("teacher_logprobs", "student_logprobs", "student_entropies"):
            np.testing.assert_allclose(there[column], here[column], rtol=0, atol=BOUND)
        if method == "opd":
            assert there["teacher_entropies"] is None
        else:
            np.testing.assert_allclose(there["teacher_entropies"], here["teacher_entropies"], rtol=0, atol=BOUND)
    if distributions:
        np.testing.assert_allclose(distributions["there"], distributions["here"], rtol=0, atol=BOUND)


def test_samples_of_a_baseline_are_the_models_own(assets: Assets, server: tuple[str, int]) -> None:
    """By seed alone, in any company; greedy where asked; ended by our tokens and not by the server's files."""
    sampler = ServedSampler(served(assets, server[0]), "m", 64, [EOS_ID])
    asked = [Request([5, 6, 7], seed, 1.0, 24) for seed in range(12)] + [Request([5, 6, 7], 0, 0.0, 24)] * 2
    found = sampler.generate(asked)
    assert found == sampler.generate(asked[::-1])[::-1]
    assert len({tuple(completion.token_ids) for completion in found}) == 13
    path, sequences = assets.demo.teachers["m"], [([5, 6, 7], completion.token_ids) for completion in found]
    for completion, (logprobs, _) in zip(found, naive(path, sequences), strict=True):
        np.testing.assert_allclose(completion.logprobs, logprobs.numpy(), rtol=0, atol=BOUND)
        assert (completion.finish_reason == "stop") == (completion.token_ids[-1] == EOS_ID)
        assert EOS_ID not in completion.token_ids[:-1]
    assert any(completion.finish_reason == "stop" for completion in found)
    assert sampler.decode([*sequences[0][1][:2], EOS_ID]) == sampler.decode(sequences[0][1][:2])


def test_a_server_with_another_model_is_found(assets: Assets, server: tuple[str, int], tmp_path: Path) -> None:
    """Before its first number is used: the server has teacher m, the spec means the weights of c."""
    scorer = Scorer(served(assets, server[0], f"teachers.m.path={assets.demo.teachers['c']}"))
    with pytest.raises(TeacherError, match=r"teacher m .*weights in the teacher's path differ by .*its dtype"):
        scorer.prove_servers(tmp_path / "digests.json", no_tick)


def test_a_round_with_a_server_that_hangs(
    assets: Assets, server: tuple[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the only copy of the weights. The teacher is named, the rollouts stay, and the same command goes on."""
    bare = tmp_path / "bare"
    shutil.copytree(assets.demo.teachers["m"], bare, ignore=shutil.ignore_patterns("*.safetensors"))
    sizes = ("rounds.count=1", "rounds.rollouts=16", "rounds.updates=1", "train.warmup_updates=0")
    url, group = server
    spec = served(assets, url, f"teachers.m.path={bare}", "method.name=opd", *sizes)
    run, said = Run.create(tmp_path / "run", spec), list[str]()
    with Crew(run, log=said.append) as crew:
        crew.perform("prepare")
        baseline = crew.perform("baseline", teacher="m")
        crew.perform("init")
        crew.perform("rollout", 1)
        before = run.path("rounds/1/rollouts/manifest.json").stat().st_mtime_ns
        os.killpg(group, signal.SIGSTOP)
        try:
            with pytest.raises(
                TeacherUnreachable, match=r"teacher m .*no answer within 10 s.*give the same command again"
            ):
                crew.perform("score", 1)
        finally:
            os.killpg(group, signal.SIGCONT)
        for stage in ("rollout", "score", "select", "train"):
            crew.perform(stage, 1)
    assert run.path("rounds/1/rollouts/manifest.json").stat().st_mtime_ns == before
    assert baseline["prompts"] == 20
    manifest = read_manifest(run.path("rounds/1/scores"))
    assert manifest is not None
    assert manifest.params["served"] == {"m": "sampled"}
    assert url not in manifest.model_dump_json()
    assert "<svg" in weights(run)  # of the page, which shows no entropies that were not asked for
    shown = trajectories(run, lambda prompt, response: ("", [""] * len(response)))
    assert {len(row["values"][shown["numbers"].index("teacher entropy")]) for row in shown["rows"]} == {0}
