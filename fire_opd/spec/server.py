"""A vLLM server that holds a teacher: where it is, and how it is asked. None of it decides what the teacher says."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pydantic import Field

from fire_opd.spec.part import Part

if TYPE_CHECKING:
    from fire_opd.spec.model import RunSpec

_HERE = ("localhost", "127.0.0.1", "::1")


class ServerSpec(Part):
    """A vLLM server (or a balancer before several with the same model) that speaks OpenAI's completions API."""

    url: str = Field(description="Its address, such as https://teachers.example/v1 or http://127.0.0.1:8000.")
    key_variable: str | None = Field(
        None, min_length=1, description="Environment variable that holds its key; the key itself is never in a spec."
    )
    served_name: str | None = Field(
        None, min_length=1, description="What the server calls the model; empty = the only one that it has."
    )
    timeout: float = Field(60, gt=0, description="Seconds within which it must answer a request, all tries included.")
    batch: int = Field(8, ge=1, description="Sequences a request; of a baseline, requests at one time.")


def unusable_servers(spec: "RunSpec") -> Iterator[str]:
    """What `placement.servers` says that cannot be used, with the reason."""
    place = spec.placement
    for name, server in place.servers.items():
        field = f"placement.servers.{name}"
        if name not in spec.teachers:
            yield f"{field}: there is no such teacher; the spec has {', '.join(sorted(spec.teachers))}"
        if problem := _address(server):
            yield f"{field}.url: {problem}"
        if server.key_variable and not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", server.key_variable):
            yield f"{field}.key_variable: expected the name of an environment variable that holds the key, not the key"
        if server.timeout >= place.tick_deadline:
            yield (
                f"{field}.timeout = {server.timeout:g} must be below placement.tick_deadline = "
                f"{place.tick_deadline:g}, or an engine that waits for it would be ended as dead"
            )


def _address(server: ServerSpec) -> str:
    """What is wrong with the URL; empty where nothing is. Credentials in it are not repeated."""
    try:
        parts = urlsplit(server.url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        return f"is no URL: {error}"
    if parts.username or parts.password:
        return "holds credentials, which would be written into records; name a variable in key_variable instead"
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment:
        return f"{server.url!r}: expected http(s)://host[:port][/v1]"
    if server.key_variable and parts.scheme == "http" and host not in _HERE:
        return f"{server.url!r} would carry the key in the clear; put TLS before the server and use https"
    return ""
