"""Objects in S3, or anything that speaks it. Data plane only (obstore): buckets are made in `workers/bootstrap.py`.

obstore puts 6 KB objects at 0.15 ms of CPU each from 16 threads; boto3 needs 2.1 ms.
"""

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import cached_property
from typing import IO, cast

import obstore
from obstore import exceptions
from obstore.store import S3Store

from aigc_core.errors import AigcError, NotFound, Unavailable
from aigc_core.storage.object_store import BINARY, ObjectInfo, Upload

#: Puts in flight per process: 16 reached the highest rate against a local server, 32 no more.
PUT_THREADS = 16

#: One request may take this long, retries included; a person at a terminal waits at most 10 s for "S3 is unreachable".
REQUEST_SECONDS_MAX = 8

#: A stream longer than this waits on disk, in bytes.
SPOOL_BYTES_MAX = 16 * 1024 * 1024

#: Called after every request: operation, class of the answer (2xx, 4xx, 5xx), seconds, bytes moved.
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
                "max_retries": 3,
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
            for part in parts:
                file.write(part)
            size_bytes = file.tell()
            file.seek(0)

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
        pages = obstore.list(self._store, prefix or None, chunk_size=1000)
        try:
            for page in pages:
                for item in page:
                    yield ObjectInfo(key=item["path"], size_bytes=item["size"])
        except (exceptions.BaseError, OSError) as error:
            raise self._translated(error, prefix) from error

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
            translated = self._translated(error, key)
            code_class = "4xx" if isinstance(translated, NotFound) else "5xx"
            raise translated from error
        finally:
            self._on_request(operation, code_class, time.perf_counter() - started, size_bytes)

    def _translated(self, error: Exception, key: str) -> AigcError:
        """Our error for one of obstore's, whose texts are pages long."""
        if isinstance(error, exceptions.NotFoundError | FileNotFoundError) and "NoSuchBucket" not in str(error):
            return NotFound(f"no object {self.uri(key)}")
        if isinstance(error, exceptions.PermissionDeniedError | exceptions.UnauthenticatedError):
            return Unavailable(
                f"S3 at {self._endpoint} refused the credentials for bucket {self._bucket!r}; "
                "check AIGC_S3_ACCESS_KEY and AIGC_S3_SECRET_KEY"
            )
        if "NoSuchBucket" in str(error):
            return Unavailable(f"S3 at {self._endpoint} has no bucket {self._bucket!r}; run `aigc models init`")
        reason = str(error).splitlines()[0][:200]
        return Unavailable(f"S3 at {self._endpoint} did not do its work for {self.uri(key)} ({reason})")
