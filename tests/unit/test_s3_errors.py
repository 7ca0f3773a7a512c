"""What each answer of an S3 server means to the caller, against a server that answers as it is told."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from scripted_server import ScriptedServer, scripted_server

from aigc_core.errors import AigcError, NotFound, Transient, Unavailable
from aigc_core.storage.object_store import ObjectStore
from aigc_core.storage.s3 import PAGE_OBJECTS, S3ObjectStore


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted_server() as made:
        yield made


@pytest.fixture
def requests() -> list[tuple[str, str]]:
    """(operation, class of the answer) of every request that was counted."""
    return []


@pytest.fixture
def store(server: ScriptedServer, requests: list[tuple[str, str]]) -> S3ObjectStore:
    return S3ObjectStore(
        "bucket",
        endpoint=server.url,
        access_key="key",
        secret_key="secret",
        on_request=lambda operation, code_class, seconds, size: requests.append((operation, code_class)),
    )


def error_body(code: str) -> bytes:
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>m</Message></Error>".encode()


def put(store: ObjectStore) -> Any:
    return store.put("key", b"x")


def get(store: ObjectStore) -> Any:
    return store.get("key")


def scan(store: ObjectStore) -> Any:
    return list(store.scan("prefix/"))


def delete(store: ObjectStore) -> Any:
    return store.delete(["key"])


MEANINGS = [
    (put, 400, "EntityTooLarge", Transient, "refused put"),
    (get, 400, "InvalidRequest", Transient, "refused get"),
    (scan, 400, "InvalidRequest", Transient, "refused list"),
    (put, 405, "", Transient, "405"),
    (put, 409, "OperationAborted", Transient, "409"),
    (put, 412, "", Transient, "412"),
    (put, 413, "", Transient, "413"),
    (put, 301, "PermanentRedirect", Transient, "region"),
    (get, 404, "NoSuchKey", NotFound, "no object s3://bucket/key"),
    (get, 404, "NoSuchBucket", Unavailable, "no bucket 'bucket'"),
    (put, 404, "", Unavailable, "no bucket 'bucket'"),
    (scan, 404, "", Unavailable, "no bucket 'bucket'"),
    (put, 401, "", Unavailable, "AIGC_S3_ACCESS_KEY"),
    (get, 403, "AccessDenied", Unavailable, "AIGC_S3_ACCESS_KEY"),
    (scan, 403, "", Unavailable, "AIGC_S3_ACCESS_KEY"),
    (get, 400, "ExpiredToken", Unavailable, "AIGC_S3_ACCESS_KEY"),
    (get, 400, "RequestTimeout", Unavailable, "RequestTimeout"),
    (put, 408, "", Unavailable, "408"),
    (put, 429, "", Unavailable, "429"),
    (put, 500, "InternalError", Unavailable, "500"),
    (scan, 503, "SlowDown", Unavailable, "503"),
]


@pytest.mark.parametrize(
    ("call", "status", "code", "kind", "words"), MEANINGS, ids=[f"{m[0].__name__} {m[1]} {m[2]}" for m in MEANINGS]
)
def test_an_answer_means_wait_or_try_again_as_the_protocol_promises(
    server: ScriptedServer,
    store: S3ObjectStore,
    requests: list[tuple[str, str]],
    call: Callable[[ObjectStore], Any],
    status: int,
    code: str,
    kind: type[AigcError],
    words: str,
) -> None:
    server.answer = (status, error_body(code) if code else b"")
    with pytest.raises(kind, match=words) as caught:
        call(store)
    assert type(caught.value) is kind
    assert len(str(caught.value).splitlines()) == 1
    operation = {put: "put", get: "get", scan: "list"}[call]
    expected = f"{status // 100}xx" if status >= 400 else "5xx"  # a redirect that leads nowhere is no answer
    assert requests == [(operation, expected)]


def test_an_answer_that_makes_no_sense_fails_one_try(server: ScriptedServer, store: S3ObjectStore) -> None:
    server.answer = (200, b"<ListBucketResult><Contents>")
    with pytest.raises(Transient, match="invalid list response"):
        scan(store)


def test_an_object_that_is_gone_is_no_error_to_delete(server: ScriptedServer, store: S3ObjectStore) -> None:
    server.answer = (404, b"")
    delete(store)


def test_a_connection_that_breaks_is_unavailable(server: ScriptedServer, store: S3ObjectStore) -> None:
    server.RequestHandlerClass = lambda *_: None  # type: ignore[assignment,misc,return-value]  # hangs up
    with pytest.raises(Unavailable, match="did not do its work"):
        put(store)


def listing(count: int) -> bytes:
    """The answer to a listing that is whole."""
    facts = "<LastModified>2024-01-01T00:00:00.000Z</LastModified><ETag>1</ETag><Size>1</Size>"
    item = f"<Contents><Key>p/{{0:05d}}</Key>{facts}</Contents>"
    items = "".join(item.format(number) for number in range(count))
    return f"<ListBucketResult><IsTruncated>false</IsTruncated>{items}</ListBucketResult>".encode()


@pytest.mark.parametrize("count", [0, 3, PAGE_OBJECTS - 1])
def test_a_scan_is_counted_as_a_listing_for_every_request(
    server: ScriptedServer, store: S3ObjectStore, requests: list[tuple[str, str]], count: int
) -> None:
    server.answer = (200, listing(count))
    assert len(list(store.scan("p/"))) == count
    assert len(server.asked) == 1
    assert requests == [("list", "2xx")]


def test_a_server_with_shorter_pages_loses_no_object(server: ScriptedServer, store: S3ObjectStore) -> None:
    more = b"<IsTruncated>true</IsTruncated><NextContinuationToken>next</NextContinuationToken>"
    server.answers = [(200, listing(2).replace(b"<IsTruncated>false</IsTruncated>", more))]
    server.answer = (200, listing(3))
    assert len(list(store.scan("p/"))) == 5
    assert len(server.asked) == 2


def test_a_temporary_folder_without_room_fails_one_try_and_names_the_folder(
    store: S3ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/proc")  # takes no file
    with pytest.raises(Transient, match="/proc did not take"):
        store.put_stream("key", (b"x" * 1_000_000 for _ in range(20)))
