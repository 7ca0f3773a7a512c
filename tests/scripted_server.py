"""An HTTP server of the test's own that answers as it is told and keeps what it was asked."""

import http.server
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from servers import serving


@dataclass(frozen=True, slots=True)
class Asked:
    """One request."""

    method: str
    path: str
    body: bytes


class ScriptedServer(http.server.ThreadingHTTPServer):
    """Gives `answers` (status, body) in turn, then `answer` for ever."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer = (200, b"")
        self.answers: list[tuple[int, bytes]] = []
        self.asked: list[Asked] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: ScriptedServer

    def _answer(self) -> None:
        payload = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked.append(Asked(self.command, self.path, payload))
        status, body = self.server.answers.pop(0) if self.server.answers else self.server.answer
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"1"')  # S3's clients want one
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _answer

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def scripted_server() -> Iterator[ScriptedServer]:
    """A running one."""
    server = ScriptedServer()
    with serving(server):
        yield server
