"""The schedule's task against a real Redis and S3: one run per slot, whoever asks, and another try after a failure."""

from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from aigc_core.datasets.ingest import ingest_dataset
from aigc_core.storage.s3 import S3ObjectStore
from workers.bootstrap import Runtime
from workers.celery_app import app
from workers.maintenance import retrain_once
from workers.settings import Settings


@pytest.fixture(scope="module", autouse=True)
def broker(redis_urls: dict[str, str]) -> Iterator[None]:
    """The same Redis for the tickets."""
    before, app.conf.broker_url = app.conf.broker_url, redis_urls["wheel"]
    yield
    app.conf.broker_url = before


@pytest.fixture
def made(redis_client: object, redis_urls: dict[str, str], s3_store: S3ObjectStore) -> Runtime:
    """A runtime of the test's servers, set to retrain on the digits."""
    settings = Settings(
        redis_url=SecretStr(redis_urls["wheel"]), retrain_dataset="digits", retrain_model="digits", retrain_preset="quick-32"
    )
    runtime = Runtime(settings)
    runtime.__dict__["store"] = s3_store
    s3_store.delete([info.key for info in s3_store.scan("")])
    return runtime


def ingest(made: Runtime) -> None:
    ingest_dataset("digits", name="digits", size=32, channels=1, store=made.store, clock=made.clock)


def test_two_beats_order_one_run_per_slot(made: Runtime) -> None:
    ingest(made)
    assert [retrain_once(made, 7), retrain_once(made, 7), retrain_once(made, 8)] == [True, True, True]
    assert len(made.ledger.jobs(count_max=9)) == 2


def test_a_tick_that_failed_can_be_repeated(made: Runtime) -> None:
    assert not retrain_once(made, 7)
    ingest(made)
    assert retrain_once(made, 7)
    assert len(made.ledger.jobs(count_max=9)) == 1
