"""The form shows plain fields only, and its answers become the spec that they name."""

from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import ValidationError

from fire_opd.errors import SpecError
from fire_opd.spec import dump_spec, load, read_spec
from flows.forms import Preset, SpecForm
from tests.conftest import Assets


def test_no_field_is_a_union_and_all_are_described() -> None:
    for name, field in SpecForm.model_json_schema()["properties"].items():
        assert "anyOf" not in field, name
        assert field["type"] in ("string", "integer", "number", "array")
        assert field["description"]


def test_the_presets_are_those_that_there_are() -> None:
    files = (Path(load.__file__).parent / "presets").glob("*.yaml")
    assert set(get_args(Preset)) == {"demo", *(file.stem for file in files)}


def test_a_preset_with_nothing_changed_is_the_preset() -> None:
    assert SpecForm(preset="qwen3-1.7b-from-4b").resolve() == read_spec("qwen3-1.7b-from-4b")


def test_every_field_reaches_the_spec(assets: Assets, tmp_path: Path) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(dump_spec(assets.spec()))))
    form = SpecForm(
        spec_file=str(file), rounds=3, rollouts=32, updates=4, percentile=50, filter_scope="teacher", alpha=0.5, beta=0,
        method="fire", lr=1e-5, max_tokens=8, seed=7, more=["train.zero=1"],
    )  # fmt: skip
    spec = form.resolve(student__path=str(assets.demo.teachers["m"]))
    assert spec.method.name == "fire"
    assert (spec.rounds.count, spec.rounds.rollouts, spec.rounds.updates, spec.seed) == (3, 32, 4, 7)
    assert (spec.filter.percentile, spec.filter.scope) == (50, "teacher")
    assert (spec.weights.alpha, spec.weights.beta, spec.train.lr, spec.sampling.max_tokens) == (0.5, 0, 1e-5, 8)
    assert spec.train.zero == 1
    assert spec.student.path == str(assets.demo.teachers["m"])


def test_the_demo_is_built_where_the_state_is(assets: Assets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRE_OPD_STATE", str(assets.state))
    assert SpecForm(rounds=2, more=["train.warmup_updates=1"]).resolve().student.path == str(assets.demo.student)


@pytest.mark.parametrize("bad", [{"rounds": 0}, {"percentile": 100}, {"preset": "x"}, {"epochs": 1}])
def test_bad_values_name_their_field(bad: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(bad))):
        SpecForm(**bad)


def test_a_contradiction_names_its_fields() -> None:
    with pytest.raises(SpecError, match=r"filter\.percentile = 1 over a scope of 64"):
        SpecForm(preset="qwen3-1.7b-from-4b", rollouts=64, percentile=1).resolve()
