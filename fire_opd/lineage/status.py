"""One look at everything: the runs on this machine, the devices, and what is in the store."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fire_opd.errors import FireOpdError, StoreUnreachable
from fire_opd.evaluation.figure import figure_of
from fire_opd.lineage.catalogue import all_records
from fire_opd.lineage.workspace import RUN_FOLDER
from fire_opd.prompts import published_prompts
from fire_opd.report import round_figures
from fire_opd.report.watch import rounds_done
from fire_opd.runtime.lock import FileLock, read_note
from fire_opd.storage import Run, Store, open_store, read_promoted, runs_folder, state_folder
from fire_opd.storage.places import places
from fire_opd.storage.run import LOCK, PARAMS_FILE


def status() -> dict[str, Any]:
    """What there is, by kind: `places`, `runs` here, `devices`, `recorded`, `students`, `prompt_sets`, `problems`.

    What cannot be read is named under `problems`; all else is there.
    """
    problems: list[str] = []
    store = open_store()

    def read(what: Callable[[Store, list[str]], list[dict[str, Any]]]) -> list[dict[str, Any]]:
        try:
            return what(store, problems)
        except FireOpdError as error:
            problems.append(str(error))
            return []

    return {
        "places": places(),
        "runs": [_run(folder, problems) for folder in sorted(runs_folder().glob("[!.]*"))],
        "devices": [_device(file) for file in sorted((state_folder() / "leases").glob("*.json"))],
        "recorded": read(_recorded),
        "students": read(_students),
        "prompt_sets": read(_prompt_sets),
        "problems": list(dict.fromkeys(problems)),
    }


def status_lines(found: dict[str, Any]) -> list[str]:
    """The same for people, a line each."""
    lines = [f"{name.removeprefix('FIRE_OPD_').lower():<8} {place}" for name, place in found["places"].items()]
    lines += [f"run      {_told(run)}" for run in found["runs"]]
    lines += [f"device   {device['device']}: {device['held_by'] or 'free'}" for device in found["devices"]]
    here, recorded = {run["run"] for run in found["runs"]}, [record["run"] for record in found["recorded"]]
    elsewhere = ", ".join(name for name in recorded if name not in here)
    lines.append(f"recorded {len(recorded)} run(s)" + (f", not here: {elsewhere}" if elsewhere else ""))
    lines += [
        f"student  {s['student']}: version {s['version']} of run {s['run']}, round {s['round']}, since {s['when'][:16]}"
        for s in found["students"]
    ]
    lines += [
        f"prompts  {p['set']}: {p['prompts']} prompts, "
        + (f"retrained {', '.join(p['retrained'])}" if p["retrained"] else "not used yet")
        for p in found["prompt_sets"]
    ]
    return [*lines, *(f"problem  {problem}" for problem in found["problems"])]


def _told(run: dict[str, Any]) -> str:
    if run["state"] == "unreadable":
        return f"{run['run']}: cannot be read"
    text = f"{run['run']}: {run['state']}, round {run['round']} of {run['rounds']}"
    return text + (f", {run['figure']} {run['before']} → {run['now']}" if run["now"] else "")


def _run(folder: Path, problems: list[str]) -> dict[str, Any]:
    """A recorded run, in a workspace, or a plain one."""
    name = folder.name
    try:
        run = Run.open(folder / RUN_FOLDER if (folder / PARAMS_FILE).is_file() else folder)
        held = FileLock(run.folder / LOCK).held()
        done, count = rounds_done(run), run.spec.rounds.count
        figure = figure_of(run.spec.evaluation)
        shown = (0, run.spec.evaluated_at(done)) if done >= 0 else ()
        values = [figure.show(round_figures(run, n)["held_out"]["value"]) for n in shown] or ["", ""]
    except FireOpdError as error:
        problems.append(str(error))
        return {"run": name, "state": "unreadable"}
    state = "at work" if held else "complete" if done == count else "stopped"
    figures = {"figure": figure.name, "before": values[0], "now": values[1]}
    return {"run": name, "state": state, "round": max(done, 0), "rounds": count, **figures}


def _device(file: Path) -> dict[str, Any]:
    note = read_note(file) if FileLock(file).held() else {}
    held_by = f"{note['run']} (process {note.get('pid', 'unknown')})" if note.get("run") else None
    return {"device": file.stem, "held_by": held_by}


def _recorded(store: Store, problems: list[str]) -> list[dict[str, Any]]:
    records = sorted(all_records(store, problems), key=lambda record: record.began)
    return [{"run": r.name, "state": r.state, "round": r.done, "rounds": r.rounds} for r in records]


def _students(store: Store, problems: list[str]) -> list[dict[str, Any]]:
    found = []
    for name in [item.key.split("/")[1] for item in store.items("models") if item.key.endswith("/promoted.json")]:
        try:
            if read := read_promoted(store, name):
                found.append({"student": name, **read[0].model_dump(exclude={"verdict"})})
        except StoreUnreachable:
            raise
        except FireOpdError as error:
            problems.append(str(error))
    return found


def _prompt_sets(store: Store, problems: list[str]) -> list[dict[str, Any]]:
    sets = list(published_prompts(store))
    used = [[_model(item.key) for item in store.items(s.folder) if "/retrained-" in item.key] for s in sets]
    return [{"set": s.reference, "prompts": s.prompts, "retrained": u} for s, u in zip(sets, used, strict=True)]


def _model(key: str) -> str:
    return key.rpartition("/retrained-")[2].removesuffix(".json")
