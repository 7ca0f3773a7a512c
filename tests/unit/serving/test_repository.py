"""Publishing: whole or not at all, at every point where a process can die; and what is listed afterwards."""

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from google.protobuf import text_format

from aigc_core.errors import NotFound, Transient, Unavailable
from aigc_core.storage import layout
from aigc_core.storage.memory import MemoryObjectStore
from serving.contract import CARD_PATH, ModelCard
from serving.protos import model_server_pb2 as pb
from serving.repository import list_models, next_version, publish, published_by, read_card, retire, write_config


class Killed(BaseException):
    """The process dies here: not an Exception, so nothing that only handles errors can tidy up after it."""


job_numbers = itertools.count(1)


def card_of(name: str = "ads", *, job_id: str = "") -> Callable[[int], ModelCard]:
    """Cards of a new job's version, or of the named job's."""
    job_id = job_id or f"job-{next(job_numbers)}"
    return lambda version: ModelCard(
        name=name,
        version=version,
        latent_dim=4,
        height=8,
        width=8,
        channels=1,
        class_names=(),
        dataset="digits",
        dataset_fingerprint="abc",
        job_id=job_id,
        code_revision="r1",
        created_at=1.0,
    )


def build(folder: Path) -> dict[str, float]:
    (folder / "saved_model.pb").write_bytes(b"graph")
    return {"steps": 5.0}


def configured(base_path: Path) -> dict[str, str]:
    """Model → base path, from models.config."""
    config = text_format.Parse((base_path / "models.config").read_text(), pb.ModelServerConfig())
    return {entry.name: entry.base_path for entry in config.model_config_list.config}


def versions(base_path: Path, name: str = "ads") -> list[str]:
    return sorted(path.name for path in (base_path / name).iterdir() if path.name.isdigit())


def test_a_published_version_is_on_disk_in_the_config_and_in_the_store(tmp_path: Path) -> None:
    store = MemoryObjectStore()

    card = publish(tmp_path, card_of(), build, store=store)

    assert (card.version, card.figures) == (1, {"steps": 5.0})
    assert (tmp_path / "ads" / "1" / "saved_model.pb").read_bytes() == b"graph"
    assert ModelCard.from_json((tmp_path / "ads" / "1" / CARD_PATH).read_text()) == card
    assert configured(tmp_path) == {"ads": str(tmp_path / "ads")}
    assert read_card(store, "ads", 1) == card


def test_the_next_publish_takes_the_next_number(tmp_path: Path) -> None:
    store = MemoryObjectStore()

    published = [publish(tmp_path, card_of(), build, store=store).version for _ in range(3)]

    assert published == [1, 2, 3]
    assert read_card(store, "ads").version == 3


def test_eleven_versions_are_ordered_by_number_not_by_text(tmp_path: Path) -> None:
    store = MemoryObjectStore()

    for _ in range(11):
        publish(tmp_path, card_of(), build, store=store)

    assert next_version(tmp_path / "ads", store=store) == 12
    assert [card.version for card in list_models(store)] == list(range(1, 12))


def test_a_build_that_fails_leaves_nothing(tmp_path: Path) -> None:
    store = MemoryObjectStore()

    def fail(folder: Path) -> dict[str, float]:
        build(folder)
        raise ValueError("the export differs")

    with pytest.raises(ValueError, match="differs"):
        publish(tmp_path, card_of(), fail, store=store)

    assert [path.name for path in (tmp_path / "ads").iterdir()] == [".lock"]
    assert list_models(store) == []


def test_a_version_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    seen: list[list[str]] = []

    def look_around(folder: Path) -> dict[str, float]:
        figures = build(folder)
        seen.append(versions(tmp_path))
        return figures

    publish(tmp_path, card_of(), look_around, store=MemoryObjectStore())

    assert seen == [[]]
    assert versions(tmp_path) == ["1"]


def test_two_publishers_at_once_get_two_versions(tmp_path: Path) -> None:
    store, together = MemoryObjectStore(), threading.Barrier(4)

    def start(number: int) -> ModelCard:
        together.wait(10)
        return publish(tmp_path, card_of(job_id=f"job-{number}"), build, store=store)

    with ThreadPoolExecutor(4) as threads:
        cards = list(threads.map(start, range(4)))

    assert sorted(card.version for card in cards) == [1, 2, 3, 4]
    on_disk = [ModelCard.from_json((tmp_path / "ads" / str(c.version) / CARD_PATH).read_text()) for c in cards]
    assert on_disk == cards
    assert list_models(store) == sorted(cards, key=lambda card: card.version)


class FailingStore(MemoryObjectStore):
    """Dies, or is away, at the first put."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.errors = [error]

    def put(self, key: str, payload: bytes, *, content_type: str = "") -> None:
        if self.errors:
            raise self.errors.pop()
        super().put(key, payload, content_type=content_type)


@pytest.mark.parametrize("error", [Killed(), Unavailable("S3 is away")], ids=["killed", "S3 away"])
def test_a_version_whose_card_was_not_stored_cannot_be_named(tmp_path: Path, error: BaseException) -> None:
    store = FailingStore(error)

    with pytest.raises(type(error)):
        publish(tmp_path, card_of(job_id="job"), build, store=store)

    assert list_models(store) == []
    assert versions(tmp_path) == ["1"]  # whole, and served: nobody can ask for it
    card = publish(tmp_path, card_of(job_id="job"), build, store=store)
    assert (card.version, versions(tmp_path)) == (1, ["1"])  # the retry of its job gives it its name
    assert list_models(store) == [card]


def test_a_job_that_publishes_twice_has_one_version_that_was_built_once(tmp_path: Path) -> None:
    store = MemoryObjectStore()
    built: list[Path] = []

    def build_counted(folder: Path) -> dict[str, float]:
        built.append(folder)
        return build(folder)

    publish(tmp_path, card_of(job_id="other"), build, store=store)
    cards = [publish(tmp_path, card_of(job_id="job"), build_counted, store=store) for _ in range(2)]

    assert cards[0] == cards[1]
    assert versions(tmp_path) == ["1", "2"]
    assert len(built) == 1


def test_the_version_of_a_job_is_found_among_those_of_others(tmp_path: Path) -> None:
    store = MemoryObjectStore()
    card = publish(tmp_path, card_of(job_id="job"), build, store=store)
    publish(tmp_path, card_of(job_id="other"), build, store=store)

    assert published_by(store, "ads", "job") == card
    assert published_by(store, "ads", "stranger") is None
    assert published_by(store, "shoes", "job") is None


def test_a_kill_during_the_build_leaves_nothing_that_a_server_takes_for_a_version(tmp_path: Path) -> None:
    store = MemoryObjectStore()

    def killed(folder: Path) -> dict[str, float]:
        build(folder)
        raise Killed

    with pytest.raises(Killed):
        publish(tmp_path, card_of(), killed, store=store)

    assert versions(tmp_path) == []
    assert not (tmp_path / "models.config").exists()


def test_the_next_publish_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    left = tmp_path / "ads" / ".tmp-killed"
    left.mkdir(parents=True)

    publish(tmp_path, card_of(), build, store=MemoryObjectStore())

    assert not left.exists()


def test_the_number_of_a_retired_version_is_never_used_again(tmp_path: Path) -> None:
    store = MemoryObjectStore()
    publish(tmp_path, card_of(), build, store=store)
    publish(tmp_path, card_of(), build, store=store)

    retire(tmp_path, "ads", 2, store=store)

    assert publish(tmp_path, card_of(), build, store=store).version == 3


def test_an_empty_disk_does_not_overwrite_the_cards_of_published_versions(tmp_path: Path) -> None:
    store = MemoryObjectStore()
    first = publish(tmp_path / "old", card_of(), build, store=store)

    second = publish(tmp_path / "new", card_of(), build, store=store)

    assert second.version == 2
    assert read_card(store, "ads", 1) == first


def test_a_disk_that_refuses_is_tried_again(tmp_path: Path) -> None:
    (tmp_path / "ads").write_text("a file where the folder should be")

    with pytest.raises(Transient, match="ads"):
        publish(tmp_path, card_of(), build, store=MemoryObjectStore())


def test_the_config_of_an_empty_repository_is_an_empty_list(tmp_path: Path) -> None:
    write_config(tmp_path / "new")

    assert configured(tmp_path / "new") == {}
    config = text_format.Parse((tmp_path / "new" / "models.config").read_text(), pb.ModelServerConfig())
    assert config.WhichOneof("config") == "model_config_list"


def test_the_config_serves_all_versions_under_the_servers_own_path(tmp_path: Path) -> None:
    publish(tmp_path, card_of("ads"), build, store=MemoryObjectStore(), server_base_path="/models")
    publish(tmp_path, card_of("shoes"), build, store=MemoryObjectStore(), server_base_path="/models")

    config = text_format.Parse((tmp_path / "models.config").read_text(), pb.ModelServerConfig())

    assert configured(tmp_path) == {"ads": "/models/ads", "shoes": "/models/shoes"}
    for entry in config.model_config_list.config:
        assert entry.model_platform == "tensorflow"
        assert entry.model_version_policy.WhichOneof("policy_choice") == "all"


def test_a_config_that_says_the_same_is_not_written_again(tmp_path: Path) -> None:
    publish(tmp_path, card_of(), build, store=MemoryObjectStore())
    before = (tmp_path / "models.config").stat().st_ino

    write_config(tmp_path)

    assert (tmp_path / "models.config").stat().st_ino == before


def test_a_retired_version_is_gone_from_disk_and_store(tmp_path: Path) -> None:
    store = MemoryObjectStore()
    for _ in range(2):
        publish(tmp_path, card_of(), build, store=store)

    retire(tmp_path, "ads", 1, store=store)

    assert versions(tmp_path) == ["2"]
    assert not store.exists(layout.model_card_key("ads", 1))
    assert read_card(store, "ads").version == 2


def test_a_model_without_versions_leaves_the_config(tmp_path: Path) -> None:
    store = MemoryObjectStore()
    publish(tmp_path, card_of(), build, store=store)

    retire(tmp_path, "ads", 1, store=store)

    assert configured(tmp_path) == {}


def test_retiring_what_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="ads has no version 4"):
        retire(tmp_path, "ads", 4, store=MemoryObjectStore())


def test_an_unknown_model_or_version_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    store = MemoryObjectStore()
    with pytest.raises(NotFound, match="train one"):
        read_card(store, "ads")
    publish(tmp_path, card_of(), build, store=store)

    with pytest.raises(NotFound, match=r"'shoes'.*ads"):
        read_card(store, "shoes")
    with pytest.raises(NotFound, match="version 9; it has 1"):
        read_card(store, "ads", 9)


def test_a_retire_that_died_after_the_card_went_is_finished_by_the_next_one(tmp_path: Path) -> None:
    store = MemoryObjectStore()
    publish(tmp_path, card_of(), build, store=store)
    store.delete([layout.model_card_key("ads", 1)])  # where the first one died

    retire(tmp_path, "ads", 1, store=store)

    assert versions(tmp_path) == []
