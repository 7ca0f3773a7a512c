"""An order by manifest is in S3 whole before it is a job, and nothing of it stays when it becomes none."""

from dataclasses import replace
from pathlib import Path

import pytest
from builders import a_generation_spec

from aigc_core.clock import FixedClock
from aigc_core.errors import InvalidSpec, QuotaExceeded, Unavailable
from aigc_core.jobs.manifest.read import read_manifest
from aigc_core.jobs.memory_ledger import MemoryLedger
from aigc_core.jobs.records import By, Submission, TeamLimits
from aigc_core.jobs.specs import GenerationSpec
from aigc_core.jobs.submit import submit
from aigc_core.storage import layout
from aigc_core.storage.memory import MemoryObjectStore


class WatchedLedger(MemoryLedger):
    """Notes what was in the store when the ledger was asked."""

    def __init__(self, store: MemoryObjectStore) -> None:
        super().__init__(FixedClock())
        self.store = store
        self.seen: list[str] = []

    def submit(self, job_id: str, spec: object, *, idempotency_key: str) -> Submission:
        self.seen = [info.key.removeprefix(layout.job_prefix(job_id)) for info in self.store.scan("")]
        return super().submit(job_id, spec, idempotency_key=idempotency_key)  # type: ignore[arg-type]


class FullStore(MemoryObjectStore):
    """Takes everything but a spec."""

    def put(self, key: str, payload: bytes, *, content_type: str = "") -> None:
        if key.endswith("spec.json"):
            raise Unavailable("full")
        super().put(key, payload)


def order(folder: Path, ledger: MemoryLedger, store: MemoryObjectStore, *, text: str, key: str | None = None) -> str:
    path = folder / "m.csv"
    path.write_text(text)
    with read_manifest(path, model="m", class_names=(), image_format="png", skip_bad=True) as manifest:
        spec = a_generation_spec(count=manifest.count, manifest_sha256=manifest.blocks.sha256)
        return submit(
            spec,
            ledger=ledger,
            store=store,
            publish=lambda kind, count: None,
            clock=FixedClock(),
            idempotency_key=key,
            attachment=manifest,
        )


TEXT = "seed\n1\n2\nx\n"


def test_blocks_refused_lines_and_spec_are_in_s3_when_the_ledger_is_asked(tmp_path: Path) -> None:
    store = MemoryObjectStore()
    ledger = WatchedLedger(store)
    job_id = order(tmp_path, ledger, store, text=TEXT)
    assert ledger.seen == ["manifest/000000000.jsonl.gz", "refused.jsonl", "spec.json"]
    assert GenerationSpec.from_json(store.get(layout.spec_key(job_id))).count == 2


def test_the_same_manifest_under_the_same_key_is_the_same_job_and_stored_once(tmp_path: Path) -> None:
    store = MemoryObjectStore()
    ledger = WatchedLedger(store)
    first = order(tmp_path, ledger, store, text=TEXT, key="k")
    assert order(tmp_path, ledger, store, text=TEXT, key="k") == first
    assert {info.key.split("/")[1] for info in store.scan("")} == {first}
    with pytest.raises(InvalidSpec, match="another order"):
        order(tmp_path, ledger, store, text="seed\n1\n3\n", key="k")
    assert {info.key.split("/")[1] for info in store.scan("")} == {first}


def test_a_refused_order_leaves_nothing_in_s3(tmp_path: Path) -> None:
    store = MemoryObjectStore()
    ledger = WatchedLedger(store)
    ledger.set_team("default", TeamLimits(queued_max=1), By(who="tester"))
    with pytest.raises(QuotaExceeded):
        order(tmp_path, ledger, store, text=TEXT)
    assert list(store.scan("")) == []


def test_an_order_that_s3_does_not_take_whole_leaves_nothing_and_asks_no_ledger(tmp_path: Path) -> None:
    store = FullStore()
    ledger = WatchedLedger(store)
    with pytest.raises(Unavailable):
        order(tmp_path, ledger, store, text=TEXT)
    assert (list(store.scan("")), ledger.seen, ledger.jobs(count_max=9)) == ([], [], [])


def test_a_spec_that_names_a_manifest_comes_with_it() -> None:
    spec = replace(a_generation_spec(), manifest_sha256="0" * 64)
    store = MemoryObjectStore()
    with pytest.raises(InvalidSpec, match="generate_manifest"):
        submit(spec, ledger=WatchedLedger(store), store=store, publish=lambda kind, count: None, clock=FixedClock())
    assert list(store.scan("")) == []
