"""A round's rollouts: whose prompts, in which order, with which seeds, and the same bytes each time."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import vllm_process

from fire_opd.demo.models import EOS, PAD, UNKNOWN, VOCABULARY
from fire_opd.prompts import round_prompts
from fire_opd.records import PROMPT, ROLLOUT, read_table
from fire_opd.runtime.seeds import derive_seed
from fire_opd.spec import RunSpec

N, ROLLOUTS = 2, 12
SKIPPED = {PAD, EOS, UNKNOWN}
FINGERPRINTS = [f"f{i:02}" for i in (3, 9, 0, 7, 5, 1, 8, 2, 6, 4)]


@pytest.fixture
def spec(models):
    model = {"path": str(models(True, "a")), "dtype": "float32"}
    return RunSpec.model_validate(
        {
            "seed": 5,
            "student": model,
            "teachers": {"t": model},
            "prompts": {"path": "train.jsonl"},
            "rounds": {"rollouts": ROLLOUTS, "count": 2},
            "sampling": {"n": N, "max_tokens": 24},
            "evaluation": {"path": "held-out.jsonl"},
        }
    )


@pytest.fixture
def prompts(tmp_path):
    """Ten prompts over several row groups, in no order."""
    rows = [
        {"prompt": name, "domain": "d" + name[-1], "teacher": "t", "prompt_ids": [2 + int(name[1:])] * 3}
        for name in FINGERPRINTS
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=PROMPT), tmp_path / "prompts.parquet", row_group_size=3)
    return tmp_path


@pytest.fixture
def rollouts(in_vllm, models, spec, prompts, tmp_path):
    def sample(number):
        out = tmp_path / f"out{number}-{len(list(tmp_path.iterdir()))}"
        out.mkdir()
        metrics = in_vllm(vllm_process.sample, models(True, "a"), spec, prompts, out, number)
        return metrics, out / "rollouts.parquet"

    return sample


def test_rows_follow_the_order_of_the_round(rollouts):
    metrics, file = rollouts(1)
    table = read_table(file, ROLLOUT)
    indices = round_prompts(FINGERPRINTS, 5, 0, ROLLOUTS // N)
    assert table["prompt"].to_pylist() == [FINGERPRINTS[i] for i in indices for _ in range(N)]
    assert table["sample"].to_pylist() == [0, 1] * (ROLLOUTS // N)
    assert set(table["round"].to_pylist()) == {1}
    for row in table.to_pylist():
        assert row["seed"] == derive_seed(5, 1, row["prompt"], row["sample"])
        assert row["prompt_ids"] == [2 + int(row["prompt"][1:])] * 3
        assert row["domain"] == "d" + row["prompt"][-1]
        assert row["text"] == "".join(VOCABULARY[i] for i in row["response_ids"] if VOCABULARY[i] not in SKIPPED)
    assert metrics["prompts"] == ROLLOUTS // N
    assert metrics["rollouts"] == ROLLOUTS
    assert metrics["tokens"] == sum(map(len, table["response_ids"].to_pylist()))
    assert metrics["truncation_rate"] == table["finish_reason"].to_pylist().count("length") / ROLLOUTS
    assert metrics["wrapped"] is False


def test_the_same_round_gives_the_same_bytes(rollouts):
    assert rollouts(1)[1].read_bytes() == rollouts(1)[1].read_bytes()


def test_the_second_round_goes_on_and_wraps(rollouts):
    first, (metrics, file) = read_table(rollouts(1)[1], ROLLOUT), rollouts(2)
    second = read_table(file, ROLLOUT)
    assert metrics["wrapped"] is True
    assert set(first["prompt"].to_pylist()) | set(second["prompt"].to_pylist()) == set(FINGERPRINTS)
    assert not set(first["seed"].to_pylist()) & set(second["seed"].to_pylist())


def test_a_prompt_that_comes_twice_in_a_round_is_sampled_anew(rollouts, spec, prompts):
    """Two prompts, three epochs within a round: samples are numbered on, so no trajectory repeats."""
    table = pq.read_table(prompts / "prompts.parquet").slice(0, 2)
    pq.write_table(table, prompts / "prompts.parquet")
    found = read_table(rollouts(1)[1], ROLLOUT)
    for name in FINGERPRINTS[:2]:
        rows = [row for row in found.to_pylist() if row["prompt"] == name]
        assert sorted(row["sample"] for row in rows) == list(range(ROLLOUTS // 2))
        assert len({tuple(row["response_ids"]) for row in rows}) == ROLLOUTS // 2
