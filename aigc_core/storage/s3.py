"""Objects in S3, or anything that speaks it. Data plane only (obstore): buckets are made in `workers/bootstrap.py`.

obstore puts 6 KB objects at 0.15 ms of CPU each from 16 threads; boto3 needs 2.1 ms.
"""

import re
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import cached_property
from typing import IO, TYPE_CHECKING, cast

import obstore
from obstore import exceptions
from obstore.store import S3Store

from aigc_core.errors import AigcError, NotFound, Transient, Unavailable
from aigc_core.storage.object_store import BINARY, ObjectInfo, Upload

if TYPE_CHECKING:
    from obstore import ObjectMeta

#: Puts in flight per process: 16 reached the highest rate against a local server, 32 no more.
PUT_THREADS = 16

#: One request may take this long, retries included; a person at a terminal waits at most 10 s for "S3 is unreachable".
REQUEST_SECONDS_MAX = 8

#: A stream longer than this waits on disk, in bytes.
SPOOL_BYTES_MAX = 16 * 1024 * 1024

#: Objects of a listing per request, which is the most that S3 gives.
PAGE_OBJECTS = 1_000

#: In the text of an error without a status: the connection failed, timed out or broke.
BROKEN_OFF = "HTTP error:"

#: Codes in the body of a 400 that mean what a 403, or a 503, means elsewhere.
EXPIRED_CODES = ("<Code>ExpiredToken<", "<Code>InvalidToken<")
BUSY_CODES = ("<Code>RequestTimeout<", "<Code>SlowDown<")

#: Called after every request: operation, class of the answer (2xx, 4xx; 5xx also for none), seconds, bytes moved.
OnRequest = Callable[[str, str, float, int], None]


def _ignore(operation: str, code_class: str, seconds: float, size_bytes: int) -> None:
    """Count nothing."""


class S3ObjectStore:
    """Keeps the promises of `ObjectStore` with one bucket."""

    def __init__(
        self,
        bucket: str,
        *,
        endpoint: str | None,
        access_key: str,
        secret_key: str,
        region: str = "us-east-1",
        on_request: OnRequest = _ignore,
    ) -> None:
        self._bucket = bucket
        self._endpoint = endpoint or "AWS"
        self._on_request = on_request
        self._store = S3Store(
            bucket,
            endpoint=endpoint,
            access_key_id=access_key or None,
            secret_access_key=secret_key or None,
            region=region,
            virtual_hosted_style_request=endpoint is None,
            client_options={
                "allow_http": bool(endpoint and endpoint.startswith("http://")),
                "connect_timeout": "3s",
                "timeout": f"{REQUEST_SECONDS_MAX}s",
            },
            retry_config={
                # As many as fit into the time: S3 that says "slow down" to one request in five would otherwise end chunks.
                "max_retries": 10,
                "retry_timeout": timedelta(seconds=REQUEST_SECONDS_MAX),
                "backoff": {
                    "init_backoff": timedelta(milliseconds=100),
                    "max_backoff": timedelta(seconds=2),
                    "base": 2,
                },
            },
        )

    @cached_property
    def _threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(PUT_THREADS, thread_name_prefix="s3-put")

    def put(self, key: str, payload: bytes, *, content_type: str = BINARY) -> None:
        def request() -> int:
            obstore.put(self._store, key, payload, attributes={"Content-Type": content_type}, use_multipart=False)
            return len(payload)

        self._timed("put", key, request)

    def put_many(self, uploads: Iterable[Upload]) -> None:
        def put(upload: Upload) -> None:
            self.put(upload.key, upload.payload, content_type=upload.content_type)

        for _ in self._threads.map(put, uploads):
            pass

    def put_stream(self, key: str, parts: Iterable[bytes], *, content_type: str = BINARY) -> None:
        # Through a file: obstore asks for the next part inside its own runtime, where a part that is itself read from S3
        # cannot be waited for.
        with tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES_MAX) as file:
            size_bytes = _spool(parts, file)

            def request() -> int:
                obstore.put(
                    self._store,
                    key,
                    cast("IO[bytes]", file),
                    attributes={"Content-Type": content_type},
                    use_multipart=size_bytes > SPOOL_BYTES_MAX,
                )
                return size_bytes

            self._timed("put", key, request)

    def get(self, key: str) -> bytes:
        payload = b""

        def request() -> int:
            nonlocal payload
            payload = bytes(obstore.get(self._store, key).bytes())
            return len(payload)

        self._timed("get", key, request)
        return payload

    def exists(self, key: str) -> bool:
        def request() -> int:
            obstore.head(self._store, key)
            return 0

        try:
            self._timed("head", key, request)
        except NotFound:
            return False
        return True

    def scan(self, prefix: str) -> Iterator[ObjectInfo]:
        pages = iter(obstore.list(self._store, prefix or None, chunk_size=PAGE_OBJECTS))
        while page := self._next_page(pages, prefix):
            yield from page
            if len(page) < PAGE_OBJECTS:
                return

    def _next_page(self, pages: "Iterator[Sequence[ObjectMeta]]", prefix: str) -> list[ObjectInfo]:
        """The objects of one request; empty after the last."""
        page: list[ObjectInfo] = []

        def request() -> int:
            page.extend(ObjectInfo(key=item["path"], size_bytes=item["size"]) for item in next(pages, ()))
            return 0

        self._timed("list", prefix, request)
        return page

    def list_folders(self, prefix: str) -> list[str]:
        found: list[str] = []

        def request() -> int:
            listing = obstore.list_with_delimiter(self._store, prefix or None)
            found.extend(sorted(path.rstrip("/").rsplit("/", 1)[-1] for path in listing["common_prefixes"]))
            return 0

        self._timed("list", prefix, request)
        return found

    def delete(self, keys: Iterable[str]) -> None:
        def remove(key: str) -> None:
            def request() -> int:
                obstore.delete(self._store, key)
                return 0

            try:
                self._timed("delete", key, request)
            except NotFound:
                return

        for _ in self._threads.map(remove, keys):
            pass

    def uri(self, key: str) -> str:
        return f"s3://{self._bucket}/{key}"

    def _timed(self, operation: str, key: str, request: Callable[[], int]) -> None:
        started = time.perf_counter()
        code_class, size_bytes = "5xx", 0
        try:
            size_bytes = request()
            code_class = "2xx"
        except (exceptions.BaseError, OSError) as error:
            status = _status(error)
            code_class = f"{status // 100}xx" if status else "5xx"
            raise self._translated(error, operation=operation, key=key, status=status) from error
        finally:
            self._on_request(operation, code_class, time.perf_counter() - started, size_bytes)

    def _translated(self, error: Exception, *, operation: str, key: str, status: int) -> AigcError:
        """Our error for one of obstore's, whose texts are pages long; `status` 0: no answer came."""
        text = str(error)
        if "NoSuchBucket" in text or (status == 404 and operation in ("put", "list")):
            return Unavailable(f"S3 at {self._endpoint} has no bucket {self._bucket!r}; run `aigc models init`")
        if status == 404:
            return NotFound(f"no object {self.uri(key)}")
        if status in (401, 403) or any(code in text for code in EXPIRED_CODES):
            return Unavailable(
                f"S3 at {self._endpoint} refused the credentials for bucket {self._bucket!r}; "
                "check AIGC_S3_ACCESS_KEY and AIGC_S3_SECRET_KEY"
            )
        first_line = text.splitlines()[0]
        reason = (first_line.partition(" - ")[2] or first_line)[:200]  # before the dash: address, time, retries
        if status >= 500 or status in (408, 429) or BROKEN_OFF in reason or any(code in text for code in BUSY_CODES):
            return Unavailable(f"S3 at {self._endpoint} did not do its work for {self.uri(key)} ({reason})")
        return Transient(f"S3 at {self._endpoint} refused {operation} of {self.uri(key)} ({reason})")


def _status(error: Exception) -> int:
    """The HTTP status of the answer; 0 when there was none. obstore tells it in its text alone."""
    found = re.search(r"status code: (\d{3})", str(error))
    if found:
        return int(found[1])
    return 404 if isinstance(error, FileNotFoundError) else 0


def _spool(parts: Iterable[bytes], file: "tempfile.SpooledTemporaryFile[bytes]") -> int:
    """Write the parts and go back to the first byte; how many bytes they are. `Transient` when the disk refuses."""
    try:
        for part in parts:
            file.write(part)
        size_bytes = file.tell()
        file.seek(0)
    except OSError as error:
        folder = tempfile.gettempdir()
        raise Transient(f"{folder} did not take what waits for its upload ({error}); free it, or set TMPDIR") from error
    return size_bytes
