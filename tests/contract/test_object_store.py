"""One suite over every object store: in memory, and S3 on a real server."""

import pytest

from aigc_core.errors import NotFound, Unavailable
from aigc_core.storage.memory import MemoryObjectStore
from aigc_core.storage.object_store import ObjectStore, Upload
from aigc_core.storage.s3 import S3ObjectStore


@pytest.fixture(params=["memory", "s3"])
def store(request: pytest.FixtureRequest) -> ObjectStore:
    made: ObjectStore = MemoryObjectStore() if request.param == "memory" else request.getfixturevalue("s3_store")
    made.delete([info.key for info in made.scan("")])
    return made


def test_what_was_put_is_got_and_a_second_put_replaces_it(store: ObjectStore) -> None:
    store.put("a/b", b"1")
    store.put("a/b", b"22", content_type="text/plain")
    assert store.get("a/b") == b"22"
    assert store.exists("a/b")


def test_a_missing_object_is_not_found_and_its_delete_no_error(store: ObjectStore) -> None:
    assert not store.exists("none")
    store.delete(["none"])
    with pytest.raises(NotFound, match="none"):
        store.get("none")


def test_a_scan_gives_all_keys_below_a_prefix_in_order(store: ObjectStore) -> None:
    store.put_many([Upload(key=f"p/{name}", payload=b"xy") for name in ("b", "a/2", "a/1")])
    store.put("q/z", b"")
    assert [(info.key, info.size_bytes) for info in store.scan("p/")] == [("p/a/1", 2), ("p/a/2", 2), ("p/b", 2)]
    assert list(store.scan("nowhere/")) == []


def test_folders_are_the_names_directly_below_that_have_objects(store: ObjectStore) -> None:
    store.put_many([Upload(key=key, payload=b"x") for key in ("m/one/1/c", "m/two/1/c", "m/file")])
    assert store.list_folders("m/") == ["one", "two"]
    assert store.list_folders("nowhere/") == []


def test_a_stream_may_read_from_the_same_store_while_it_is_stored(store: ObjectStore) -> None:
    store.put_many([Upload(key=f"part/{number}", payload=bytes([65 + number]) * 1_000) for number in range(3)])
    store.put_stream("whole", (store.get(info.key) for info in store.scan("part/")))
    assert store.get("whole") == b"A" * 1_000 + b"B" * 1_000 + b"C" * 1_000


def test_an_unreachable_s3_is_unavailable_with_its_address() -> None:
    away = S3ObjectStore("bucket", endpoint="http://127.0.0.1:1", access_key="k", secret_key="s")
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1"):
        away.get("a")


def test_refused_credentials_say_which_settings_to_check(s3_store: S3ObjectStore) -> None:
    endpoint = s3_store._endpoint
    stranger = S3ObjectStore("bucket", endpoint=endpoint, access_key="stranger01234567", secret_key="wrong")
    with pytest.raises(Unavailable, match="AIGC_S3_ACCESS_KEY"):
        stranger.put("a", b"")
