"""Commands that start something: a run, a demo, a study; the same command goes on with what is there."""

from pathlib import Path
from typing import Annotated

import typer

from fire_opd.cli.arguments import (
    AsJson,
    DryRun,
    FromCache,
    Name,
    Override,
    PlainFolder,
    RunArgument,
    SpecFile,
    print_json,
    tell,
)
from fire_opd.cli.start import become_flow, rehearse, rehearse_study, start
from fire_opd.errors import SpecError
from fire_opd.spec import dump_spec, read_spec
from fire_opd.storage import open_store, state_folder

app = typer.Typer()


@app.command("show-config", epilog="Example: fire-opd show-config qwen3-1.7b-from-4b -S train.lr=2e-6")
def show_config(spec: SpecFile = "qwen3-1.7b-from-4b", overrides: Override = None, as_json: AsJson = False) -> None:
    """Print the resolved spec, every default written out."""
    resolved = read_spec(spec, overrides or ())
    if as_json:
        print_json(resolved.model_dump(mode="json"))
    else:
        typer.echo(dump_spec(resolved), nl=False)


@app.command(epilog="Example: fire-opd plan qwen3-1.7b-from-4b -S rounds.count=50")
def plan(spec: SpecFile, overrides: Override = None, as_json: AsJson = False) -> None:
    """How many bytes a run will write, and how long it takes, its stages as recorded and placed as it says."""
    from fire_opd.lineage.forecast import forecast, forecast_lines

    found = forecast(open_store(), read_spec(spec, overrides or ()))
    if as_json:
        print_json(found)
    else:
        typer.echo("\n".join(forecast_lines(found)))


@app.command(epilog="Example: fire-opd run support.yaml --name support-1 -S seed=7")
def run(
    spec: SpecFile,
    name: Name = "",
    folder: PlainFolder = None,
    overrides: Override = None,
    dry_run: DryRun = False,
    cache: FromCache = True,
) -> None:
    """Run all rounds; the same command resumes, and a finished run is a no-op."""
    resolved = read_spec(spec, overrides or ())
    if not dry_run and bool(name) == bool(folder):
        raise SpecError("give --name NAME for a run that is recorded, or --run DIR for one in a plain folder")
    if dry_run:
        rehearse(resolved)
    else:
        start(resolved, name, folder, cache)


@app.command(epilog="Example: fire-opd demo --name demo-2 --seed 1")
def demo(
    name: Name = "demo",
    folder: PlainFolder = None,
    assets: Annotated[
        Path | None, typer.Option(help="Where the demo's models and prompts are kept; by default in the state folder.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    clean: Annotated[bool, typer.Option(help="Only prompts that the teachers were taught.")] = False,
    method: Annotated[str, typer.Option(help="Another method, such as fire or opd; docs/methods.md has them.")] = "",
    overrides: Override = None,
    dry_run: DryRun = False,
    cache: FromCache = True,
) -> None:
    """Build the demo's teachers and student once, then distil for 10 rounds."""
    from fire_opd.demo.build import build_demo, demo_assets, demo_spec

    root = (assets or state_folder() / "demo").resolve()
    made = demo_assets(root, seed) if dry_run else build_demo(root, seed)
    chosen = [f"method.name={method}"] if method else []
    resolved = demo_spec(made, [*chosen, *(overrides or [])], clean=clean)
    if not dry_run:
        start(resolved, name, folder, cache)
    elif made.built():
        rehearse(resolved)
    else:
        typer.echo(dump_spec(resolved), nl=False)
        tell(f"{root}: the demo's models are not built yet, so only the spec was checked; `fire-opd demo` builds them")


@app.command(epilog="Example: fire-opd study benchmarks/studies/demo-mixed.yaml")
def study(
    file: Annotated[Path, typer.Argument(help="YAML file: docs/study.md has one.", metavar="STUDY")],
    name: Annotated[str, typer.Option(help="Name of the study; by default that of the file.")] = "",
    overrides: Override = None,
    dry_run: DryRun = False,
    cache: FromCache = True,
) -> None:
    """Run methods over seeds and compare them; the same command resumes, and a finished run is not run again."""
    from fire_opd.study import Study, read_study

    spec, name = read_study(file, overrides or ()), name or file.stem
    if dry_run:
        rehearse_study(spec, name)
    else:
        become_flow(Study.start(name, spec, tell).folder, None, cache)


@app.command("demo-lm", epilog="Example: fire-opd demo-lm --name demo-lm")
def demo_lm(
    name: Name = "demo-lm",
    folder: PlainFolder = None,
    assets: Annotated[
        Path | None, typer.Option(help="Where its models and prompts are kept; by default in the state folder.")
    ] = None,
    method: Annotated[str, typer.Option(help="Another method, such as reverse_kl; docs/methods.md has them.")] = "",
    overrides: Override = None,
    dry_run: DryRun = False,
    cache: FromCache = True,
) -> None:
    """Take four layers out of a real language model of 135M parameters, and heal it by its whole self."""
    from fire_opd.demo.lm import build_lm, lm_spec

    made = build_lm(assets or state_folder() / "demo-lm")
    resolved = lm_spec(made, [*([f"method.name={method}"] if method else []), *(overrides or [])])
    if dry_run:
        rehearse(resolved)
    else:
        start(resolved, name, folder, cache)


@app.command(epilog="Example: fire-opd resume demo")
def resume(name: RunArgument, cache: FromCache = True) -> None:
    """Go on with a recorded run that is not finished, whoever began it: it belongs to this machine from then on."""
    from fire_opd.lineage.resume import resume as go_on

    opened = go_on(name, tell)
    become_flow(opened.folder, opened.code, cache)
