"""A server of ours asks for its password, which only its owner can read."""

import stat
from pathlib import Path

import httpx

from flows.password import password, password_file


def test_the_password_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    home = tmp_path / "home"
    made = password(home)
    assert made == password(home)
    assert made.startswith("admin:")
    assert made != password(tmp_path / "other")
    assert stat.S_IMODE(password_file(home).stat().st_mode) == 0o600
    assert [file.name for file in home.iterdir()] == ["password"]


def test_a_private_server_refuses_who_has_no_password(prefect_api: str) -> None:
    for auth in (None, ("admin", "guessed")):
        assert httpx.post(f"{prefect_api}/flow_runs/filter", json={}, auth=auth).status_code == 401
