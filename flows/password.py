"""The password of a Prefect server. Its API starts flows by the path of their code, and asks nobody unless told to."""

import contextlib
import os
import secrets
from pathlib import Path

SERVER, CLIENT = "PREFECT_SERVER_API_AUTH_STRING", "PREFECT_API_AUTH_STRING"


def password_file(home: Path) -> Path:
    """Where the password of the server with this home folder is."""
    return home / "password"


def password(home: Path) -> str:
    """`admin:<password>` as Prefect's page and clients want it: made once, in a file that only its owner can read."""
    file = password_file(home)
    if not file.is_file():
        home.mkdir(parents=True, exist_ok=True)
        new = home / f".password.{os.getpid()}"
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as opened:
            opened.write(f"admin:{secrets.token_urlsafe(24)}\n")
        with contextlib.suppress(FileExistsError):  # another process was faster
            os.link(new, file)
        new.unlink()
    return file.read_text().strip()
