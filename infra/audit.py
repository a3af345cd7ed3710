"""`python -m infra.audit`: is what is installed what was locked, and is anything known to be wrong with it?

`infra/lock-cpu.txt` has every library with the hashes of its files. Known vulnerabilities are asked of pip-audit, where
it is installed (`pip install pip-audit`) and the network is there; a library that it knows nothing about is named.
"""

import json
import re
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

LOCK = Path(__file__).with_name("lock-cpu.txt")
_OWN = {"fire-opd", "pip"}


def locked(lock: Path = LOCK) -> dict[str, str]:
    """Versions by name."""
    pins = (line.split()[0].partition("==") for line in lock.read_text().splitlines() if re.match(r"[A-Za-z0-9]", line))
    return {_normal(name): version for name, _, version in pins}


def differences(lock: Path = LOCK) -> list[str]:
    """What is installed and not locked, the other way round, or in another version."""
    wanted = locked(lock)
    found = {_normal(each.metadata["Name"]): each.version for each in distributions()}
    names = sorted((wanted.keys() | found.keys()) - _OWN)
    pairs = [(name, found.get(name, "nothing"), wanted.get(name, "nothing")) for name in names]
    return [f"{name}: installed {here}, locked {there}" for name, here, there in pairs if here != there]


def vulnerabilities() -> tuple[list[str], str]:
    """Known ones, and a line on what could not be asked; pip-audit's own answer."""
    command = [sys.executable, "-m", "pip_audit", "--progress-spinner", "off", "-f", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        listed = json.loads(done.stdout)["dependencies"]
    except ValueError:
        return [], f"vulnerabilities were not looked up: {(done.stderr.strip().splitlines() or ['no answer'])[-1]}"
    known = [f"{d['name']} {d['version']}: {v['id']}" for d in listed for v in d.get("vulns", ())]
    skipped = sum("skip_reason" in d for d in listed)
    return (
        known,
        f"vulnerabilities: {len(known)} in {len(listed) - skipped} libraries; {skipped} could not be looked up",
    )


def main() -> int:
    """0 when the installed set is the locked one and nothing is known against it."""
    unlike = differences()
    known, said = vulnerabilities()
    for line in (*unlike, *known):
        print(line)
    bare = [name for name, block in _blocks() if "--hash" not in block]
    print(f"locked: {len(locked())} libraries, {len(unlike)} differ; without a hash: {', '.join(bare) or 'none'}")
    print(said)
    return 1 if unlike or known else 0


def _blocks() -> list[tuple[str, str]]:
    return re.findall(r"^([A-Za-z0-9][^=\n]*)==(.*(?:\n    .*)*)", LOCK.read_text(), re.MULTILINE)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    sys.exit(main())
