"""The code of a run as a commit without a past, and one that also has what is changed or added in the user's checkout.

The project's history stays out: a record is small, needs nothing that a shallow or partial clone lacks, and brings
nothing along that was deleted long ago. The first commit's message names the commit that it is a copy of.

Git does the work in an index of its own: the user's branch, index and files are not touched, no patch is made (so line
ends, encodings and diff settings do not matter), and a lock on the user's index does not stop it.

Only what git tracks comes along. `git add FILE` is how a new file is let in; it stays out of the user's history. What
must not leave the machine is refused: files of more than 10 MiB, and what looks like a password or key.
"""

import os
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from fire_opd.errors import LineageError
from fire_opd.lineage.git import git

_LARGEST = 10 << 20  # bytes of one file; weights and data belong into the store, not into git
_SECRET_FILES = re.compile(
    r"(^|/)(\.env(\..*)?|\.netrc|id_(rsa|dsa|ecdsa|ed25519)|credentials(\.json)?|.*\.(pem|p12|pfx|key))$"
)
_SECRETS = re.compile(
    rb"-----BEGIN [A-Z ]*PRIVATE KEY-----|\b(AKIA|ASIA)[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{36}|\bhf_[A-Za-z0-9]{30,}"
    rb"|\bsk-[A-Za-z0-9_-]{32,}|\bglpat-[A-Za-z0-9_-]{20}|\bxox[baprs]-[A-Za-z0-9-]{10,}"
    rb"|(?i:aws_secret_access_key|api[_-]?key|password|passwd)\s*[=:]\s*[\"']?[A-Za-z0-9/+_=-]{20,}"
)
_SHOWN = 5


def snapshot(checkout: Path, log: Callable[[str], None]) -> str:
    """The commit that a run of this checkout's code starts from; what was left out is logged.

    Raises:
        LineageError: a changed or added file is too large, or holds what looks like a secret.
    """
    _name_left_out(checkout, log)
    head = git(checkout, "rev-parse", "HEAD").strip()
    date = git(checkout, "log", "-1", "--format=%cI", head).strip()  # the same code is the same commit in every run
    dated = {"GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date}
    code = git(checkout, "commit-tree", f"{head}^{{tree}}", "-m", f"the project at commit {head}", env=dated).strip()
    index = Path(git(checkout, "rev-parse", "--path-format=absolute", "--git-path", "index").strip())
    with tempfile.TemporaryDirectory(prefix=".fire-opd-", dir=index.parent) as folder:
        own = Path(folder) / "index"
        if index.is_file():
            shutil.copy2(index, own)
        env = {"GIT_INDEX_FILE": str(own)}
        git(checkout, "add", "--update", "--", ":/", env=env)
        tree = git(checkout, "write-tree", env=env).strip()
    if tree == git(checkout, "rev-parse", "HEAD^{tree}").strip():
        return code
    _check(checkout, head, tree)
    message = "changes that were not committed when the run began"
    return git(checkout, "commit-tree", tree, "-p", code, "-m", message).strip()


def _name_left_out(checkout: Path, log: Callable[[str], None]) -> None:
    listed = git(checkout, "ls-files", "--others", "--exclude-standard", "-z").split("\0")
    if names := [name for name in listed if name]:
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        log(
            f"not part of the run, since git does not track them: {', '.join(names[:_SHOWN])}{more}; "
            "`git add` what its code needs"
        )


def _check(checkout: Path, head: str, tree: str) -> None:
    """Refuse what should not be recorded among the files that differ from HEAD."""
    listed = git(checkout, "diff-tree", "-r", "--no-renames", "--raw", "-z", "--abbrev=40", head, tree).split("\0")
    for described, name in zip(listed[::2], listed[1::2], strict=False):
        _, mode, _, blob, _ = described.split(" ")
        if mode in ("000000", "160000"):  # deleted, or a submodule
            continue
        size = int(git(checkout, "cat-file", "-s", blob))
        if size > _LARGEST:
            raise LineageError(
                f"{name}: {size / 2**20:.0f} MiB, changed or added and not committed: a run records files of at most "
                f"{_LARGEST >> 20} MiB; take it out of git (`git rm --cached {name}`), or commit it"
            )
        where = _secret(checkout, blob, name)
        if where:
            raise LineageError(
                f"{where}: looks like a password or key, and the run's code goes into the store; take it out of git "
                f"(`git rm --cached {name}`), or commit it when it is none"
            )


def _secret(checkout: Path, blob: str, name: str) -> str:
    """Where a file has a secret; empty when it has none."""
    if _SECRET_FILES.search(name):
        return name
    data = os.fsencode(git(checkout, "cat-file", "blob", blob))
    found = _SECRETS.search(data)
    return f"{name}:{data.count(10, 0, found.start()) + 1}" if found else ""
