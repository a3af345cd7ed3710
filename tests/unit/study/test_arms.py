"""A study file becomes the runs that it names, or one error that says what is wrong."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from fire_opd.errors import SpecError
from fire_opd.spec import RunSpec, dump_spec
from fire_opd.study import StudySpec, arms_of, dump_study, read_study
from fire_opd.study.spec import CONTROLS, load_study
from tests.conftest import Assets

ROOT = Path(__file__).parents[3]
Read = Callable[..., StudySpec]
WITHOUT = f", without: {list(CONTROLS)}}}"  # the end of a file


@pytest.fixture
def read(assets: Assets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Read:
    """read(text, *overrides, base=overrides of the spec beside it): a study on the small spec."""
    monkeypatch.setenv("FIRE_OPD_STATE", str(assets.state))

    def call(text: str, *overrides: str, base: tuple[str, ...] = ()) -> StudySpec:
        (tmp_path / "base.yaml").write_text(dump_spec(assets.spec(*base)))
        (tmp_path / "study.yaml").write_text(text)
        return read_study(tmp_path / "study.yaml", overrides)

    return call


def specs(study: StudySpec) -> dict[str, RunSpec]:
    """By name, at the first seed."""
    return {arm.name: arm.spec for arm in arms_of(study, "s") if arm.seed == study.seeds[0]}


def test_the_controls_are_arms_unless_left_out(read: Read) -> None:
    assert list(read("{seeds: [0], arms: {opd: }}").all_arms) == ["opd", *CONTROLS]
    study = read("{seeds: [0], arms: {opd: , random_filter: {filter.percentile: 30}}, without: [fixed_negative]}")
    found = specs(study)
    assert list(found) == ["opd", "random_filter", "random_weights", "position_weights"]
    assert found["random_filter"].filter.percentile == 30
    assert {name: spec.method.name for name, spec in found.items()} == {name: name for name in found}


def test_every_arm_is_run_at_every_seed(read: Read) -> None:
    study = read("{base: base.yaml, seeds: [3, 5], arms: {opd: , fire: }" + WITHOUT)
    arms = arms_of(study, "s")
    assert [arm.run for arm in arms] == ["s-opd-3", "s-fire-3", "s-opd-5", "s-fire-5"]
    assert [arm.spec.seed for arm in arms] == [3, 3, 5, 5]
    assert {arm.spec.evaluation.seed for arm in arms} == {0}


def test_nested_fields_add_to_the_base_and_overrides_come_last(read: Read) -> None:
    text = "{base: base.yaml, seeds: [0], arms: {opd: {train: {lr: 1e-3}}}, fields: {rounds: {count: 1}}}"
    spec = specs(read(text, "rounds.count=3"))["opd"]
    assert (spec.train.lr, spec.train.warmup_updates, spec.rounds.count, spec.rounds.rollouts) == (1e-3, 1, 3, 64)


@pytest.mark.parametrize("base", [("method={name: gkd, beta: 0.3}",), ("method.name=fire", "filter.percentile=40")])
def test_an_arm_has_its_method_whatever_the_base_has(read: Read, base: tuple[str, ...]) -> None:
    """The base is a dump, which names filter, weights and the method's options."""
    found = specs(read("{base: base.yaml, seeds: [0], arms: {fire: , opd: , tip: {method.keep: 0.3}}}", base=base))
    assert found["opd"].method.beta is None
    assert found["tip"].method.keep == 0.3
    assert (found["opd"].filter.percentile, found["fixed_negative"].weights.alpha) == (0, 0)
    assert found["fire"].filter.percentile == found["random_filter"].filter.percentile == (40 if len(base) > 1 else 20)
    assert found["fire"].weights.alpha == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{seed: [0], arms: {opd: }}", "seed: there is no such field; did you mean seeds?"),
        ("{seeds: [0]}", "arms: is missing"),
        ("{seeds: [], arms: {opd: }}", "seeds: list should have at least 1 item"),
        ("{seeds: [1, 1], arms: {opd: }}", "seeds: expected numbers from 0, each once"),
        ("{seeds: [0], arms: {a/b: }}", "arms.a/b: a name has letters"),
        ("{seeds: [0], arms: {opd: {seed: 3}}}", "arms.opd.seed: all arms have the same seeds"),
        ("{seeds: [0], arms: {opd: 3}}", "arms.opd: "),
        ("{seeds: [0], arms: {opd: }, without: [opd]}", "without.0: "),
        ("{seeds: [0], arms: {opd: }" + WITHOUT, "a study compares at least two"),
        ("", "expected a mapping of base, seeds and arms"),
    ],
)
def test_a_mistake_in_the_file_names_its_field(read: Read, text: str, said: str) -> None:
    with pytest.raises(SpecError) as error:
        read(text)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("arm", "said"),
    [
        ("opd: {train.learning_rate: 1}", "arms.opd: .*train.learning_rate: there is no such field"),
        ("opd: {filter.percentile: 10}", "arms.opd: .*filter.percentile"),
        ("a: {method.name: ppo}", "arms.a: .*method.name"),
        ("same: {method.name: random_filter}", "arms.random_filter: is the same run as arms.same"),
    ],
)
def test_a_mistake_in_an_arm_names_the_arm(read: Read, arm: str, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        arms_of(read("{seeds: [0], arms: {" + arm + "}}"), "s")


def test_what_is_written_down_is_the_same_study(read: Read, tmp_path: Path) -> None:
    study = read("{base: base.yaml, seeds: [0], arms: {opd: }, without: [fixed_negative]}", "rounds.count=1")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/study.yaml").write_text(dump_study(study))
    again = load_study(tmp_path / "elsewhere/study.yaml")
    assert [(arm.run, arm.spec) for arm in arms_of(again, "s")] == [(arm.run, arm.spec) for arm in arms_of(study, "s")]


@pytest.mark.parametrize("name", ["demo-mixed", "demo-clean"])
def test_the_studies_of_the_demo_have_controls_of_both_kinds(
    name: str, monkeypatch: pytest.MonkeyPatch, assets: Assets
) -> None:
    monkeypatch.setenv("FIRE_OPD_STATE", str(assets.state))
    study = read_study(ROOT / f"benchmarks/studies/{name}.yaml")
    found = specs(study)
    assert len(found) == 15
    assert {"random_filter", "random_filter_kl", "random_weights", "random_weights_kl"} <= found.keys()
    assert len(study.seeds) >= 5
    assert {Path(spec.prompts.path).stem for spec in found.values()} == {name.removeprefix("demo-")}
    assert yaml.safe_load(dump_study(study))["arms"]["filter_only"]["weights.beta"] == 0
