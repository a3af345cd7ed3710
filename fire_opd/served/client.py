"""Requests to a teacher's server: tried again until a deadline, and every failure names the teacher."""

import logging
import os
import time
from functools import cached_property
from typing import Any

import httpx

from fire_opd.errors import SpecError, TeacherError, TeacherUnreachable
from fire_opd.spec import ServerSpec

_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0  # seconds between two tries, doubled each time
_BUSY = 429
_SHOWN = 300  # characters of what a server says


class Client:
    """Connections to one server; threads may share it.

    Args:
        teacher: its name, for messages.
        server: where it is, and how it is asked.

    Raises:
        SpecError: the variable that should hold the key is not set.
    """

    def __init__(self, teacher: str, server: ServerSpec) -> None:
        self.name = f"teacher {teacher} ({server.url})"
        self._server = server
        headers = {}
        if variable := server.key_variable:
            if not (key := os.environ.get(variable, "").strip()):
                raise SpecError(
                    f"placement.servers.{teacher}.key_variable: {variable} is not set in the environment; export the "
                    "server's key under this name where the run starts"
                )
            headers["Authorization"] = f"Bearer {key}"
        logging.getLogger("httpx").setLevel(logging.WARNING)  # a line a request otherwise
        base = server.url.rstrip("/")
        self._http = httpx.Client(
            base_url=base if base.endswith("/v1") else f"{base}/v1",
            headers=headers,
            limits=httpx.Limits(max_connections=server.batch),
        )

    def close(self) -> None:
        """Close the connections: the next client gets new ones."""
        self._http.close()

    def completions(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        """The `choices` for a request to /v1/completions, one a prompt, in their order.

        Raises:
            TeacherError: the server refuses it, or answers with something else.
            TeacherUnreachable: no answer within `timeout`.
        """
        answer = self._request("POST", "/completions", {"model": self.model(), **body})
        choices = answer.get("choices")
        if not isinstance(choices, list) or len(choices) != len(body["prompt"]):
            found = f"{len(choices)} choices" if isinstance(choices, list) else "no choices"
            raise TeacherError(f"{self.name}: expected {len(body['prompt'])} choices, one a prompt; found {found}")
        return sorted(choices, key=lambda choice: int(choice["index"]))

    def model(self) -> str:
        """What the server calls the teacher's model."""
        return self._server.served_name or str(self.about["id"])

    @cached_property
    def about(self) -> dict[str, Any]:
        """What /v1/models says about the teacher's model.

        Raises:
            TeacherError: the server does not have it.
        """
        listed = self._request("GET", "/models").get("data") or []
        models = {str(model["id"]): model for model in listed if isinstance(model, dict) and model.get("id")}
        wanted = self._server.served_name
        if wanted is None and len(models) == 1:
            return next(iter(models.values()))
        if wanted not in models:
            has = ", ".join(sorted(models)) or "no model"
            raise TeacherError(f"{self.name}: serves {has}; name the teacher's in `served_name` (found: {wanted})")
        return models[wanted]

    def _request(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """One JSON answer. Connections that fail and servers that are busy or broken are tried again."""
        until, pause = time.monotonic() + self._server.timeout, _FIRST_PAUSE
        while True:
            try:
                response = self._http.request(method, path, json=body, timeout=max(until - time.monotonic(), 0.001))
                if response.status_code != _BUSY and response.status_code < 500:
                    return self._read(response)
                said = f"status {response.status_code}: {_words(response)}"
            except httpx.TransportError as error:
                said = f"{type(error).__name__}: {error}"
            if time.monotonic() + pause >= until:
                raise TeacherUnreachable(
                    f"{self.name}: no answer within {self._server.timeout:g} s (its `timeout`); the last try: {said}; "
                    "what is scored is kept: see that the server is up, and give the same command again"
                )
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _read(self, response: httpx.Response) -> dict[str, Any]:
        if response.status_code != httpx.codes.OK:
            raise TeacherError(
                f"{self.name}: refused with status {response.status_code}: {_words(response)}; see its URL, its key "
                "and how the server was started (docs/methods.md)"
            )
        try:
            answer = response.json()
        except ValueError as error:
            raise TeacherError(
                f"{self.name}: expected JSON, found {response.text[:80]!r}; is it a vLLM server?"
            ) from error
        if not isinstance(answer, dict):
            raise TeacherError(f"{self.name}: expected a JSON object, found {type(answer).__name__}")
        return answer


def _words(response: httpx.Response) -> str:
    """What the server says is wrong, on one line."""
    try:
        said = response.json()
        said = said.get("error", said) if isinstance(said, dict) else said
        said = said.get("message", said) if isinstance(said, dict) else said
    except ValueError:
        said = response.text
    return " ".join(str(said).split())[:_SHOWN] or "no reason given"
