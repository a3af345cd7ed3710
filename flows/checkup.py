"""`fire-opd doctor`: one line a finding; with --fix what can be put right is."""

import json
import os
import sys
from dataclasses import asdict

from fire_opd.runtime.lock import FileLock, read_note
from fire_opd.storage import state_folder
from flows.environment import prepare_environment
from flows.password import CLIENT, password_file


def main(arguments: list[str]) -> int:
    """Print one line a finding, or with --json a list; 0 when all is well or was put right, else 1."""
    _find_server()
    from flows.doctor import outcomes  # only now: prefect reads its environment when it is imported

    found = []
    for outcome in outcomes("--fix" in arguments):
        found.append(outcome)
        if "--json" not in arguments:
            print(outcome, flush=True)
    if "--json" in arguments:
        print(json.dumps([asdict(outcome) for outcome in found], indent=1))
    return 0 if all(outcome.settled for outcome in found) else 1


def _find_server() -> None:
    """The server that PREFECT_API_URL names, else that of a `make ui` at work on this state folder."""
    home = state_folder() / "prefect"
    prepare_environment(home)
    if "PREFECT_API_URL" not in os.environ and FileLock(home / ".lock").held():
        os.environ["PREFECT_API_URL"] = f"{read_note(home / '.lock').get('address', '')}/api"
    if CLIENT not in os.environ and password_file(home).is_file():
        os.environ[CLIENT] = password_file(home).read_text().strip()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
