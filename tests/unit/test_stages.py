"""The table of stages is the contract of flow and command line."""

import inspect

import flows.distill
from fire_opd import cli
from fire_opd.spec import spec_values
from fire_opd.stages import ROUND, STAGES, START
from tests.conftest import Assets


def test_the_flow_runs_every_stage_in_order() -> None:
    source = inspect.getsource(flows.distill.distil)
    calls = [source.index(f"    {stage.name}(crew") for stage in (*START, *ROUND)]
    assert calls[:3] == sorted(calls[:3])
    rounds = source[source.index("for n in") :]
    inside = [rounds.index(f"{stage.name}(crew, n)") for stage in ROUND]
    assert inside == sorted(inside)


def test_the_command_line_has_every_stage() -> None:
    commands = {
        command.name or command.callback.__name__ for command in cli.app.registered_commands if command.callback
    }
    assert commands >= STAGES.keys()


def test_every_parameter_is_a_field_and_none_is_a_path(assets: Assets) -> None:
    spec = assets.spec()
    for stage in STAGES.values():
        values = spec_values(spec, stage.params)
        assert str(assets.demo.root) not in str(values), stage.name


def test_a_round_reads_only_what_was_written_before() -> None:
    written = {output.directory for stage in START for output in stage.outputs}
    written |= {
        o.directory.replace("{n}", "{m}") for s in ROUND for o in s.outputs if o.name in ("trainer", "checkpoint")
    }
    for stage in ROUND:
        for output in stage.outputs:
            stages = {source for source in output.inputs if ":" not in source}
            assert stages <= written, f"{stage.name} reads {stages - written}"
            written.add(output.directory)


def test_another_percentile_leaves_rollouts_and_scores(assets: Assets) -> None:
    specs = assets.spec(), assets.spec("filter.percentile=10")
    changed = {s.name for s in STAGES.values() if spec_values(specs[0], s.params) != spec_values(specs[1], s.params)}
    assert changed == {"select"}  # what follows changes by its inputs' digests
