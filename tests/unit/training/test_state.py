"""What a round leaves: byte for byte the same when repeated, resumed or retried; and a checkpoint that others load."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

from fire_opd.spec import ModelSpec
from fire_opd.training.checkpoint import write_model

Digests = dict[str, str]


def digests(directory: Path) -> Digests:
    return {
        str(file.relative_to(directory)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(directory.rglob("*"))
        if file.is_file()
    }


def check_resume(lab: Any, root: Path, *, zero: int, ranks: int, adapter: int | None = None) -> Path:
    """Two rounds at one go, and again in another process that reloads, retries after a failure, and reloads again."""
    tables = lab.tables(root / "tables", "tied")
    broken = lab.tables(root / "broken", "tied")
    plant_infinity(broken)
    changes = {"train__zero": zero, "rounds__updates": 3, "train__schedule": "cosine", "train__warmup_updates": 2}
    spec = lab.spec("tied", **changes, student__adapter={"rank": adapter})
    straight: list[list[Any]] = [["new", spec], ["state", root / "a0"]]
    for number in (1, 2):
        straight += [["train", tables, number], ["state", root / f"a{number}"], ["checkpoint", root / f"ca{number}"]]
    resumed: list[list[Any]] = [
        *(["new", spec], ["load", root / "a0"], ["train", tables, 1], ["state", root / "b1"]),
        *(["new", spec], ["load", root / "b1"], ["train", broken, 2]),
        *(["load", root / "b1"], ["train", tables, 2], ["state", root / "b2 é"], ["checkpoint", root / "cb2"]),
    ]
    one, two = lab.run(straight, ranks), lab.run(resumed, ranks)
    for left, right in (("a1", "b1"), ("a2", "b2 é"), ("ca2", "cb2")):
        assert digests(root / left) == digests(root / right), f"{left} and {right} differ"
    assert digests(root / "a1") != digests(root / "a2")
    assert two[6]["error"] == "NotFiniteError"
    assert "update 3: the loss is" in two[6]["message"]
    assert (two[1], two[5], two[7]) == (0, 3, 3)
    assert one[5] == two[8]
    assert [one[2]["first_update"], one[5]["first_update"]] == [0, 3]
    assert one[2]["by_update"]["lr"][:2] == [5e-4, 1e-3]
    assert one[5]["by_update"]["lr"][0] < one[2]["by_update"]["lr"][2]
    return root


def plant_infinity(tables: Path) -> None:
    """An advantage that is not finite, in the last trajectory of the round."""
    batch = pq.read_table(tables / "batch.parquet").to_pydict()
    batch["advantages"][-1][0] = float("inf")
    schema = pq.read_schema(tables / "batch.parquet")
    pq.write_table(pq.read_table(tables / "batch.parquet").from_pydict(batch, schema), tables / "batch.parquet")


@pytest.fixture(scope="module")
def finished(lab: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return check_resume(lab, tmp_path_factory.mktemp("state"), zero=0, ranks=1)


def test_repeated_resumed_and_retried_rounds_give_the_same_bytes(finished: Path) -> None:
    state = "mp_rank_00_model_states.pt"  # and its digest, made meanwhile, for whoever commits it
    assert sorted(digests(finished / "a2")) == [f"state/.{state}.sha256", f"state/{state}"]
    assert (finished / "a2" / f"state/.{state}.sha256").read_text() == digests(finished / "a2")[f"state/{state}"]


@pytest.mark.full
@pytest.mark.timeout(600)
@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("zero", [0, 1, 2, 3])
def test_resume_at_every_stage(lab: Any, tmp_path: Path, zero: int, ranks: int) -> None:
    check_resume(lab, tmp_path, zero=zero, ranks=ranks)


@pytest.mark.parametrize(
    ("zero", "ranks"),
    [
        (0, 1),
        *(pytest.param(z, r, marks=pytest.mark.full) for z, r in [(0, 2), (1, 2), (2, 1), (2, 2), (3, 1), (3, 2)]),
    ],
)
def test_an_adapter_resumes(lab: Any, tmp_path: Path, zero: int, ranks: int) -> None:
    check_resume(lab, tmp_path, zero=zero, ranks=ranks, adapter=4)
    assert sorted(digests(tmp_path / "ca2")) == ["adapter_config.json", "adapter_model.safetensors", "probes.json"]


@pytest.mark.parametrize("zero", [pytest.param(1, marks=pytest.mark.full), 2])
def test_sleep_between_rounds_changes_nothing(lab: Any, tmp_path: Path, zero: int) -> None:
    tables, spec = lab.tables(tmp_path / "tables", "tied"), lab.spec("tied", train__zero=zero)
    for name, between in (("awake", []), ("slept", [["sleep"]])):
        rounds = [["train", tables, 1], *between, ["train", tables, 2], *between, ["state", tmp_path / name]]
        lab.run([["new", spec], *rounds], 1)
    assert digests(tmp_path / "awake") == digests(tmp_path / "slept") != {}


def test_transformers_loads_what_the_trainer_holds(lab: Any, finished: Path) -> None:
    checkpoint = finished / "ca2"
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype="auto")
    weights = torch.load(finished / "a2/state/mp_rank_00_model_states.pt", weights_only=False)["module"]
    for name, value in model.state_dict().items():
        assert torch.equal(value, weights[f"model.{name}"])
    with safe_open(checkpoint / "model.safetensors", "pt") as file:
        assert "lm_head.weight" not in file.keys()  # noqa: SIM118
    source = Path(lab.students["tied"])
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (checkpoint / name).read_bytes() == (source / name).read_bytes()
    assert AutoTokenizer.from_pretrained(checkpoint).get_vocab() == AutoTokenizer.from_pretrained(source).get_vocab()
    assert json.loads((checkpoint / "generation_config.json").read_text())["eos_token_id"] == 1


def test_a_generation_config_with_sampling_fields_is_copied_as_it_is(lab: Any, tmp_path: Path) -> None:
    """transformers reads it and refuses to write it: a temperature without sampling."""
    source = Path(shutil.copytree(lab.students["tied"], tmp_path / "source"))
    text = '{"do_sample": false,  "temperature": 0.7, "top_p": 0.8, "eos_token_id": 1}'
    (source / "generation_config.json").write_text(text)
    model = AutoModelForCausalLM.from_pretrained(source)
    write_model(model, ModelSpec(path=str(source), dtype="float32"), tmp_path / "out")
    assert (tmp_path / "out" / "generation_config.json").read_text() == text


def test_the_probes_are_of_the_new_weights(finished: Path) -> None:
    values = {name: json.loads((finished / name / "probes.json").read_text()) for name in ("ca1", "ca2")}
    assert values["ca1"]["tokens"] == values["ca2"]["tokens"]
    found = {}
    for name in values:
        model = AutoModelForCausalLM.from_pretrained(finished / name, dtype="auto")
        tokens = torch.tensor(values[name]["tokens"])
        with torch.no_grad():
            logprobs = model(input_ids=tokens).logits[:, :-1].log_softmax(-1).gather(2, tokens[:, 1:, None])[..., 0]
        found[name] = logprobs
        assert torch.allclose(logprobs, torch.tensor(values[name]["logprobs"]), atol=1e-5)
    assert float((found["ca1"] - found["ca2"]).abs().mean()) > 1e-3


@pytest.mark.parametrize("zero", [0, *(pytest.param(zero, marks=pytest.mark.full) for zero in (1, 2, 3))])
def test_a_state_runs_no_code(lab: Any, tmp_path: Path, zero: int) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "ran",)

    spec = lab.spec("tied", train__zero=zero)
    lab.run([["new", spec], ["state", tmp_path / "state"]], 1)
    for number, file in enumerate(sorted((tmp_path / "state").rglob("*.pt"))):
        shutil.copytree(tmp_path / "state", tmp_path / f"bad{number}")
        value = torch.load(file, weights_only=False)
        torch.save({**value, "more": Evil()}, tmp_path / f"bad{number}" / file.relative_to(tmp_path / "state"))
    bad = sorted(tmp_path.glob("bad*"))
    results = lab.run([["new", spec], *(["load", state] for state in [tmp_path / "state", *bad])], 1)
    assert results[1] == 0
    assert [found["error"] for found in results[2:]] == ["ArtifactError"] * len(bad)
    assert not (tmp_path / "ran").exists()


@pytest.fixture(scope="module")
def refusals(lab: Any, finished: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """Errors at one start: a state of another ZeRO stage, no state, nothing kept; then clipping and bfloat16."""
    root = tmp_path_factory.mktemp("refusals")
    empty = lab.tables(root / "empty", "tied")
    batch = pq.read_table(empty / "batch.parquet")
    pq.write_table(batch.set_column(5, "kept", [[False] * len(batch)]), empty / "batch.parquet")
    clipped = {"train__betas": [0.0, 0.999], "train__grad_clip": 0.5}
    half = lab.spec("tied", train__zero=2, train__lr=1e-5, rounds__updates=2, student__dtype="bfloat16", **clipped)
    tables = finished / "tables"
    found: list[Any] = lab.run(
        [
            *(["new", lab.spec("tied", train__zero=1)], ["load", finished / "a2"], ["load", root / "nowhere"]),
            *(["new", lab.spec("tied", **clipped)], ["train", empty, 1], ["train", tables, 1]),
            *(["dump", "exp_avg", root / "0.pt"], ["new", half], ["dump", "weights", root / "before.pt"]),
            *(["train", tables, 1], ["dump", "exp_avg", root / "2.pt"], ["dump", "weights", root / "after.pt"]),
            ["checkpoint", root / "checkpoint"],
        ]
    )
    return [*found, root]


def test_a_state_that_does_not_fit_is_refused(refusals: list[Any]) -> None:
    for result in refusals[1:3]:
        assert result["error"] == "ArtifactError"
        assert "expected the trainer state of 1 rank(s) at ZeRO 1, which is 1 file(s), found 0" in result["message"]


def test_a_round_that_keeps_nothing_is_refused(refusals: list[Any]) -> None:
    assert refusals[4]["error"] == "EmptyRoundError"


def test_gradients_are_clipped_to_the_norm_and_reported_before(refusals: list[Any]) -> None:
    for result, file in ((refusals[5], "0.pt"), (refusals[9], "2.pt")):
        assert result["by_update"]["grad_norm"][-1] > 1
        norm = sum(float(g.double().square().sum()) for g in torch.load(refusals[-1] / file).values()) ** 0.5
        assert norm == pytest.approx(0.5, rel=1e-3)


def test_bfloat16_keeps_fp32_weights(refusals: list[Any]) -> None:
    root: Path = refusals[-1]
    before, after = torch.load(root / "before.pt"), torch.load(root / "after.pt")
    moved = after["model.embed_tokens.weight"] - before["model.embed_tokens.weight"]
    assert 0 < float(moved.abs().max()) < 1e-4  # less than bfloat16 resolves in these weights
    model = AutoModelForCausalLM.from_pretrained(root / "checkpoint", dtype="auto")
    assert model.dtype == torch.bfloat16
    for name, value in model.named_parameters():
        assert torch.equal(value, after[name].bfloat16())
