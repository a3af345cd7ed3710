"""What may be at the address of PREFECT_API_URL: each is one line that says what to do, before anything starts."""

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from unittest.mock import patch

import pytest

from fire_opd.errors import RunError
from flows import probe
from flows.environment import prepare_environment
from flows.probe import check_api


def quiet(line: str) -> None:
    """Nobody is told."""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@contextmanager
def answering(status: int, body: str, kind: str = "text/html", port: int = 0) -> Iterator[str]:
    """Some other server, which says the same to everything."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def refusal(url: str) -> str:
    with pytest.raises(RunError) as found:
        check_api(url, quiet, grace=1)
    assert "\n" not in str(found.value)
    return str(found.value)


def test_a_server_is_found(prefect_api: str) -> None:
    check_api(prefect_api, quiet)


def test_an_address_without_api(prefect_api: str) -> None:
    found = refusal(prefect_api.removesuffix("/api"))
    assert "is not Prefect's API (HTTP 200, text/html" in found
    assert found.endswith(f"; did you mean {prefect_api}?")


@pytest.mark.parametrize("path", ["/api", ""])
@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [(200, "<html>", "text/html"), (404, "no", "text/plain"), (200, "{}", "application/json"), (500, "", "text/plain")],
)
def test_another_server(path: str, status: int, body: str, kind: str) -> None:
    with answering(status, body, kind) as url:
        assert "is not Prefect's API" in refusal(url + path)


@pytest.mark.parametrize("status", [401, 403])
def test_a_password_is_asked_for(status: int) -> None:
    with answering(status, "Unauthorized") as url:
        found = refusal(url.replace("//", "//user:secret@") + "/api")
    assert f"(HTTP {status}); set PREFECT_API_AUTH_STRING" in found
    assert "secret" not in found


def test_another_version() -> None:
    with answering(200, json.dumps("2.20.1"), "application/json") as url:
        assert "Prefect 2.20.1 answers there, expected 3." in refusal(f"{url}/api")


def test_nobody_answers() -> None:
    found = refusal(f"http://127.0.0.1:{free_port()}/api")
    assert "no Prefect server answers there (ConnectError" in found
    assert "unset the variable" in found


def test_a_name_that_is_not_there() -> None:
    assert "no Prefect server answers there" in refusal("http://no-such-host.invalid:4200/api")


def test_a_gateway_whose_server_is_away() -> None:
    with answering(502, "Bad Gateway") as url:
        assert "no Prefect server answers there (HTTP 502)" in refusal(f"{url}/api")


def test_a_server_that_accepts_and_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "_ANSWER_SECONDS", 0.5)
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/api"
        assert "no Prefect server answers there (ReadTimeout" in refusal(url)


@pytest.mark.parametrize(
    "url", ["127.0.0.1:4200/api", "localhost:4200", "ftp://127.0.0.1/api", "http://127.0.0.1:http/api", " "]
)
def test_what_is_no_address(url: str) -> None:
    assert "expected an address such as http://127.0.0.1:4200/api" in refusal(url)


def test_https_where_there_is_none() -> None:
    with answering(200, "x") as url:
        assert "SSL" in refusal(url.replace("http:", "https:") + "/api")


def test_a_proxy_that_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(503, "") as proxy:
        for name in ("https_proxy", "HTTPS_PROXY"):
            monkeypatch.setenv(name, proxy)
        assert "the proxy of this environment refuses" in refusal("https://prefect.invalid/api")


def test_a_proxy_is_not_asked_for_this_machine(prefect_api: str, tmp_path: Path) -> None:
    with patch.dict(os.environ):  # restored afterwards
        proxy = f"http://127.0.0.1:{free_port()}"
        os.environ |= {"http_proxy": proxy, "HTTP_PROXY": proxy, "all_proxy": proxy, "no_proxy": "a.example"}
        prepare_environment(tmp_path)
        check_api(prefect_api, quiet)


def test_a_server_that_starts_is_waited_for() -> None:
    port, said = free_port(), list[str]()
    started = threading.Event()

    def start(line: str) -> None:
        said.append(line)
        threading.Thread(target=serve, daemon=True).start()

    def serve() -> None:
        with answering(200, json.dumps(probe._own_version()), "application/json", port):
            started.wait(30)

    check_api(f"http://127.0.0.1:{port}/api", start, grace=30)
    started.set()
    assert len(said) == 1
    assert "waiting 30 s for a server that is starting" in said[0]
