"""An S3 that can be told to be busy, to lose an answer after its work, or to receive a damaged body.

It keeps objects as files, below the same folder as the plant's real S3 server, so that both show the same objects. It knows
what a worker asks for: PUT, GET, HEAD, DELETE of one object, path style; signatures are not looked at.
"""

import hashlib
import http.server
import os
import random
import tempfile
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from servers import serving


class FakeS3(http.server.ThreadingHTTPServer):
    """Its faults may be changed while it runs; each is the share of PUTs that it happens to."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.slow_down = 0.0  # answered 503 SlowDown, nothing done
        self.lose_reply = 0.0  # done, and the connection ends without an answer
        self.flip = 0.0  # one bit of the body arrives wrong
        self.counts = {"put": 0, "slow_down": 0, "lose_reply": 0, "flip": 0, "bad_digest": 0}
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def happens(self, fault: str) -> bool:
        """Throw the dice for one PUT, and count."""
        happens = random.random() < getattr(self, fault)
        if happens:
            self.count(fault)
        return happens

    def count(self, what: str) -> None:
        with self.lock:
            self.counts[what] += 1

    def handle_error(self, request: object, client_address: object) -> None:
        """Connections that a killed worker leaves are no news."""


class _Handler(http.server.BaseHTTPRequestHandler):
    server: FakeS3
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.count("put")
        if self.server.happens("slow_down"):
            self._answer(503, _error("SlowDown"))
            return
        if body and self.server.happens("flip"):
            place = random.randrange(len(body))
            body = body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :]
        if not self._digest_fits(body):
            self.server.count("bad_digest")
            self._answer(400, _error("XAmzContentSHA256Mismatch"))
            return
        self._store(body)
        if self.server.happens("lose_reply"):
            self.close_connection = True
            return
        self._answer(200, b"", etag=hashlib.md5(body).hexdigest())

    def do_GET(self) -> None:
        try:
            body = self._path().read_bytes()
        except OSError:
            self._answer(404, _error("NoSuchKey"))
            return
        self._answer(200, body, etag=hashlib.md5(body).hexdigest())

    do_HEAD = do_GET

    def do_DELETE(self) -> None:
        with suppress(OSError):
            self._path().unlink()
        self._answer(204, b"")

    def _digest_fits(self, body: bytes) -> bool:
        """Whether the body is what its sender says it is; true where the sender says nothing."""
        said = self.headers.get("x-amz-content-sha256", "UNSIGNED-PAYLOAD")  # hexadecimal; part of what a signature signs
        return said == "UNSIGNED-PAYLOAD" or hashlib.sha256(body).hexdigest() == said

    def _path(self) -> Path:
        return self.server.folder / urllib.parse.unquote(urllib.parse.urlparse(self.path).path).lstrip("/")

    def _store(self, body: bytes) -> None:
        """Whole or not at all."""
        path = self._path()
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=self.server.folder, delete=False) as file:
            file.write(body)
        os.replace(file.name, path)

    def _answer(self, status: int, body: bytes, *, etag: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Last-Modified", "Mon, 01 Jan 2024 00:00:00 GMT")
        if etag:
            self.send_header("ETag", f'"{etag}"')
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def _error(code: str) -> bytes:
    return f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>{code}</Message></Error>'.encode()


@contextmanager
def fake_s3(folder: Path) -> Iterator[FakeS3]:
    """A running one over a folder of buckets."""
    server = FakeS3(folder)
    with serving(server):
        yield server
