"""The command line: `fire-opd run` drives a whole run, `fire-opd <stage>` one stage of it, cold."""

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console

from fire_opd.errors import STOPPED, FireOpdError, SpecError, print_error
from fire_opd.spec import RunSpec, dump_spec, read_spec
from fire_opd.storage import Run, open_store, runs_folder, state_folder
from fire_opd.storage.places import lineage_on, settle_places

if TYPE_CHECKING:
    from fire_opd.study import StudySpec

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)

prompts = typer.Typer(no_args_is_help=True, help="Prompt sets in the store.")
app.add_typer(prompts, name="prompts")

Folder = Annotated[Path, typer.Option("--run", help="Folder of the run.", metavar="DIR")]
PlainFolder = Annotated[
    Path | None, typer.Option("--run", help="Run in this plain folder instead, unrecorded.", metavar="DIR")
]
RunArgument = Annotated[str, typer.Argument(help="Name of a recorded run.", metavar="RUN")]
Name = Annotated[str, typer.Option(help="Name of the run: it is recorded, in a workspace of that name.")]
Round = Annotated[
    int, typer.Option("--round", min=0, help="Round number; 0 is the student before training.", metavar="N")
]
Override = Annotated[list[str] | None, typer.Option("-S", help="Override a spec field, such as -S train.lr=2e-6.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Make the checks of a start, print the resolved spec, start nothing.")
]
FromCache = Annotated[
    bool, typer.Option("--cache/--no-cache", help="Take stages that recorded runs have made already.")
]
SpecFile = Annotated[str, typer.Argument(help="YAML file, or the name of a preset.", metavar="SPEC")]


@app.command("show-config")
def show_config(spec: SpecFile = "qwen3-1.7b-from-4b", overrides: Override = None) -> None:
    """Print the resolved spec, every default written out."""
    typer.echo(dump_spec(read_spec(spec, overrides or ())), nl=False)


@app.command()
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


@app.command()
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


@app.command()
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
        _become_flow(Study.start(name, spec, tell).folder, None, cache)


@app.command("demo-lm")
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


@app.command(hidden=True)
def inputs(seed: Annotated[int, typer.Option(min=0)] = 0) -> None:
    """Build the demo's models and write the digests of what params.yaml names: the first stage of `dvc repro`."""
    from fire_opd.demo.build import build_demo
    from fire_opd.lineage.inputs import INPUTS_FILE, input_digests, write_inputs
    from fire_opd.spec import load_params

    project = Path.cwd()  # DVC runs its commands where dvc.yaml is, and params.yaml beside it names .state/demo
    build_demo(project / ".state" / "demo", seed)
    spec = load_params(project / "params.yaml")
    write_inputs(project / INPUTS_FILE, input_digests(spec, project / ".state" / "model-digests.json"))


@app.command()
def prepare(folder: Folder) -> None:
    """Read, check and tokenise the prompt sets; compare tokenizers."""
    _cold(folder, "prepare")


@app.command()
def init(folder: Folder) -> None:
    """Turn the student into round 0: trainer state and checkpoint."""
    _cold(folder, "init")


@app.command()
def baseline(folder: Folder, teacher: Annotated[str, typer.Option(help="Name of the teacher.")]) -> None:
    """Evaluate a teacher on the held-out prompts."""
    _cold(folder, "baseline", teacher=teacher)


@app.command()
def rollout(folder: Folder, round: Round) -> None:
    """Sample a round's rollouts from the student of the round before."""
    _cold(folder, "rollout", round)


@app.command()
def score(folder: Folder, round: Round) -> None:
    """Score every token of the rollouts by teacher and student."""
    _cold(folder, "score", round)


@app.command()
def select(folder: Folder, round: Round) -> None:
    """Filter the trajectories and weight their tokens."""
    _cold(folder, "select", round)


@app.command()
def train(folder: Folder, round: Round) -> None:
    """Train one DeepSpeed round on the batch."""
    _cold(folder, "train", round)


@app.command()
def evaluate(folder: Folder, round: Round) -> None:
    """Evaluate the student of a round on the held-out prompts."""
    _cold(folder, "evaluate", round)


@app.command()
def appraise(folder: Folder, round: Round) -> None:
    """Score the answers of an evaluation without a grader: the reverse KL to the teacher."""
    rules = Run.open(folder).spec.evaluation
    if rules.graded:
        raise SpecError(f"evaluation.grader is {rules.grader}: the answers are graded, and appraise is for grader none")
    _cold(folder, "appraise", round)


@app.command()
def verify(
    name: RunArgument = "",
    folder: PlainFolder = None,
    remote: Annotated[bool, typer.Option("--remote", help="Also read every byte in the store.")] = False,
    repair: Annotated[bool, typer.Option("--repair", help="Replace bad objects by good copies.")] = False,
) -> None:
    """Hash every file of a run, in its folder, the cache and the store, and name each that is missing or altered."""
    from fire_opd.lineage.verify import verify_cache, verify_run, verify_store

    where = folder or runs_folder() / name / "run"
    problems = verify_run(Run.open(where)) if folder or where.is_dir() or not remote else []
    lock = where.parent / "dvc.lock"
    if lock.is_file():
        problems += verify_cache(lock, repair)
    if remote:
        problems += verify_store(open_store(), name, repair)
    for problem in problems:
        typer.echo(problem)
    typer.echo(f"{name or where}: {len(problems)} problem(s)")
    raise typer.Exit(1 if [problem for problem in problems if not problem.endswith("repaired")] else 0)


@app.command("runs")
def list_runs() -> None:
    """List the recorded runs."""
    from rich.table import Table

    from fire_opd.lineage.catalogue import all_records, state_of
    from fire_opd.lineage.retention import read_tags

    store = open_store()
    tags = read_tags(store)
    table = Table(
        "run", "began", "student", "rounds", "held out", "before", "now", "seconds", "cost", "state", "tags", box=None
    )
    problems: list[str] = []
    for record in sorted(all_records(store, problems), key=lambda found: found.began):
        table.add_row(
            record.name,
            record.began[:16],
            Path(record.student).name,
            f"{record.done}/{record.rounds}",
            *record.shown,
            f"{record.seconds:.0f}",
            f"{record.cost:.2f}",
            state_of(record),
            ", ".join(sorted(label for label, run in tags.items() if run == record.name)),
        )
    console = Console()
    console.width = max(console.width, 120)
    console.print(table)
    for problem in problems:
        typer.echo(problem, err=True)
    raise typer.Exit(1 if problems else 0)


@app.command("diff")
def diff_runs(left: RunArgument, right: RunArgument) -> None:
    """What differs between two recorded runs: spec, inputs, results."""
    from fire_opd.lineage.compare import diff

    for part, rows in diff(open_store(), left, right).items():
        typer.echo(f"{part}: {'the same' if not rows else ''}")
        for field, one, other in rows:
            typer.echo(f"  {field}: {one} → {other}")


@app.command()
def reproduce(
    name: RunArgument,
    into: Annotated[Path | None, typer.Option(help="Folder of the fresh workspace.")] = None,
    recompute: Annotated[bool, typer.Option("--recompute", help="Run every stage again, cold, and compare.")] = False,
) -> None:
    """Bring a recorded run back from the store alone, and compare every digest with the record."""
    from fire_opd.lineage.reproduce import reproduce as bring_back

    differences = bring_back(name, into, recompute, typer.echo)
    for difference in differences:
        typer.echo(f"differs: {difference}")
    typer.echo(f"{name}: {'all digests are equal' if not differences else f'{len(differences)} directories differ'}")
    raise typer.Exit(1 if differences else 0)


@app.command()
def resume(name: RunArgument, cache: FromCache = True) -> None:
    """Go on with a recorded run that is not finished, whoever began it: it belongs to this machine from then on."""
    from fire_opd.lineage.resume import resume as go_on

    opened = go_on(name, tell)
    _become_flow(opened.folder, opened.code, cache)


@app.command("explain")
def explain_origin(
    what: Annotated[str, typer.Argument(help="A stage directory, a run, a tag, or the name of a promoted student.")],
) -> None:
    """Say what something was made from: prompts, teachers, rollouts, filter decisions, code, seeds, cost."""
    from fire_opd.lineage.explain import explain

    for line in explain(open_store(), what):
        typer.echo(line)


@app.command("tag")
def tag_run(name: RunArgument, label: Annotated[str, typer.Argument(metavar="TAG")]) -> None:
    """Give a recorded run a tag, which keeps it from being collected."""
    from fire_opd.lineage.retention import tag

    tag(open_store(), name, label)


@app.command()
def gc(
    last: Annotated[int, typer.Option("--keep-last", min=0, help="Also keep this many of the latest runs.")] = 10,
    grace: Annotated[float, typer.Option(help="Leave what is younger than this many hours.")] = 24.0,
    yes: Annotated[bool, typer.Option("--yes", help="Remove; otherwise only say what would be removed.")] = False,
) -> None:
    """Remove runs that are neither tagged, promoted, recent nor at work, and objects that no kept run needs."""
    from fire_opd.lineage.retention import carry_out, plan

    store = open_store()
    found = plan(store, last, grace * 3600)
    for name, why in sorted(found.kept.items()):
        typer.echo(f"keep    {name} ({why})")
    for name in sorted(found.removed):
        typer.echo(f"remove  {name}")
    typer.echo(f"{'removing' if yes else 'would remove'} {len(found.objects)} objects, {found.size / 2**20:.1f} MiB")
    if yes:
        carry_out(store, found)


@app.command()
def doctor(
    fix: Annotated[bool, typer.Option("--fix", help="Put right what can be; otherwise nothing is changed.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> None:
    """Look for what dead processes left behind, and at disk, store, server, libraries and GPUs."""
    chosen = [option for option, wanted in (("--fix", fix), ("--json", as_json)) if wanted]
    os.execv(sys.executable, [sys.executable, "-m", "flows.checkup", *chosen])


@prompts.command()
def publish(
    file: Annotated[str, typer.Argument(help="JSONL or Parquet, local or at any fsspec URL.")],
    name: Annotated[str, typer.Option(help="Name of the set, such as support-tickets.")],
) -> None:
    """Check a prompt set, put it into the store (FIRE_OPD_STORE), and announce it: a retraining starts."""
    os.execv(sys.executable, [sys.executable, "-m", "flows.publish", file, name])


@app.command()
def merge(folder: Folder, round: Round) -> None:
    """Write the student of a round as a whole model, its adapter merged into the base, and print where it is."""
    from fire_opd.training import whole_model

    typer.echo(whole_model(Run.open(folder), round))


@app.command()
def report(folder: Folder) -> None:
    """Print the table of a run, draw its curves again, and write its page, for a browser."""
    from fire_opd.report import print_report, write_report
    from fire_opd.report.page import try_page

    opened = Run.open(folder)
    write_report(opened)
    print_report(opened)
    if page := try_page(opened, tell):
        tell(f"page: {page}")


@app.command()
def whatif(
    folder: Folder,
    round: Round,
    methods: Annotated[str, typer.Option(help="Names, with commas; docs/methods.md has them.")] = "",
    gradients: Annotated[bool, typer.Option(help="Load the models; compare the methods' gradients too.")] = False,
    picture: Annotated[Path | None, typer.Option(help="Draw it into this PNG file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """What other methods would keep and weigh in a round, from its rollouts and scores alone."""
    import json

    from fire_opd.fire.methods import METHODS
    from fire_opd.report.picture import draw_what_if
    from fire_opd.report.whatif import what_if, what_if_table

    names = [name.strip() for name in methods.split(",")] if methods else list(METHODS)
    if unknown := [name for name in names if name not in METHODS]:
        raise SpecError(f"--methods: there is no {', '.join(unknown)}; there are {', '.join(METHODS)}")
    if picture and not picture.absolute().parent.is_dir():
        raise SpecError(f"--picture: there is no folder {picture.absolute().parent}; make it")
    rows = what_if(Run.open(folder), round, names, gradients=gradients)
    if picture:
        draw_what_if(rows, round, picture)
    if as_json:
        typer.echo(json.dumps(rows))
    else:
        Console().print(what_if_table(rows, round))


def rehearse(spec: RunSpec) -> None:
    """Make the checks of a start, print the resolved spec."""
    began = time.monotonic()
    notes = _notes(spec)
    typer.echo(dump_spec(spec), nl=False)
    for note in notes:
        tell(f"note: {note}")
    seconds = time.monotonic() - began
    tell(f"checked in {seconds:.1f} s: prompt sets, models, tokenizers, templates; nothing was started")


def rehearse_study(spec: "StudySpec", name: str) -> None:
    """Make the checks of a start for every run of a study, print the study with its controls."""
    from fire_opd.study import arms_of, dump_study, naming, not_built

    began = time.monotonic()
    arms, absent, notes = arms_of(spec, name), not_built(spec), list[str]()
    for arm in arms if not absent else ():
        with naming(arm.name):
            notes += _notes(arm.spec)
    typer.echo(dump_study(spec), nl=False)
    for note in dict.fromkeys(notes):
        tell(f"note: {note}")
    if absent:
        tell(f"the demo's models are not built yet for seeds {absent}, so only the specs were checked")
    seconds = time.monotonic() - began
    tell(f"checked {len(arms)} runs in {seconds:.1f} s: {len(spec.all_arms)} arms at each seed; nothing was started")


def _notes(spec: RunSpec) -> list[str]:
    """Of the checks of a start. What this machine lacks is one of them: the run may be meant for another."""
    from fire_opd.checks import check_machine, check_start

    notes = check_start(spec)
    try:
        check_machine(spec)
    except SpecError as error:
        notes.append(f"here it would not start: {error}")
    return notes


def tell(line: str) -> None:
    """One line on standard error, beside a result on standard output."""
    typer.echo(line, err=True)


def start(spec: RunSpec, name: str, folder: Path | None, cache: bool) -> None:
    """Check spec and machine, create the run, and become the flow's process, with the code of the run's workspace."""
    from fire_opd.checks import start_plain
    from fire_opd.lineage.workspace import start_recorded

    if folder is None and lineage_on():
        opened = start_recorded(name, spec, tell)
    else:
        opened = start_plain(folder or runs_folder() / name, spec, tell)
    _become_flow(opened.folder, opened.code, cache)


def _become_flow(folder: Path, code: Path | None, cache: bool) -> NoReturn:
    from fire_opd.engines.crew import engine_environment

    # Replacing this process keeps signals simple, and keeps the library free of Prefect.
    command = [sys.executable, "-m", "flows.main", str(folder)]
    choice = {} if cache else {"FIRE_OPD_CACHE": "off"}
    os.execve(sys.executable, command, {**engine_environment(code), **choice})


def main() -> None:
    """Entry point of `fire-opd`: errors of ours are one message, not a traceback."""
    try:
        settle_places()
        app()
    except FireOpdError as error:
        print_error(error)
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        Console(stderr=True).print("stopped; the same command goes on from what is complete")
        sys.exit(STOPPED)


def _cold(folder: Path, stage: str, round: int = 0, teacher: str = "") -> None:
    from fire_opd.engines.crew import Crew

    opened = Run.open(folder)
    if teacher and teacher not in opened.spec.teachers:
        raise SpecError(f"no teacher {teacher!r}; the run has {', '.join(opened.spec.teachers)}")
    with opened.held(), Crew(opened, resident=False, log=typer.echo) as crew:
        crew.perform(stage, round, teacher)


if __name__ == "__main__":
    main()
