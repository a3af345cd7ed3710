"""A stand-in for a teacher's server, for what the real one cannot be made to do: break, lie, leave numbers out.

It answers as vLLM 0.32 does (tests/integration/test_served.py has the real one), with uniform log-probs over 64 ids.
"""

import json
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ROWS = 64
Answer = tuple[int, Any]
Fault = Callable[[dict[str, Any], Any], Answer | None]
"""Given the server's state and the request's body, an answer instead of the right one, or None."""


def uniform(tokens: list[int], top: int) -> list[dict[str, Any] | None]:
    """`prompt_logprobs` of a model that knows nothing."""
    given = range(ROWS) if top < 0 else range(top)
    entry = {"logprob": -math.log(ROWS), "rank": 1, "decoded_token": "?"}
    return [None, *({str(token): dict(entry) for token in {*given, wanted}} for wanted in tokens[1:])]


def right(body: dict[str, Any]) -> dict[str, Any]:
    """What vLLM answers to a request for log-probs."""
    asked = enumerate(body["prompt"])
    return {"choices": [{"index": i, "prompt_logprobs": uniform(row, body["prompt_logprobs"])} for i, row in asked]}


@contextmanager
def standing_in(fault: Fault = lambda state, body: None) -> Iterator[tuple[str, dict[str, Any]]]:
    """A server on loopback: its address, and its state (`asked`, a number; `keys`, the authorisations it saw)."""
    state: dict[str, Any] = {"asked": 0, "keys": []}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state["keys"].append(self.headers.get("Authorization"))
            self._send(200, {"data": [{"id": "big", "max_model_len": 4096}]})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            state["asked"] += 1
            self._send(*(fault(state, body) or (200, right(body))))

        def _send(self, status: int, value: Any) -> None:
            data = value if isinstance(value, bytes) else json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
