"""How a bucket is made sure of, against a server that answers as it is told."""

from collections.abc import Iterator

import pytest
from scripted_server import ScriptedServer, scripted_server

from aigc_core.errors import Unavailable
from workers.bootstrap import Runtime
from workers.settings import Settings

pytestmark = pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")

OK, MISSING, FORBIDDEN = (200, b""), (404, b""), (403, b"")


def refusal(code: str) -> tuple[int, bytes]:
    status = 409 if code.startswith("Bucket") else 403
    return status, f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted_server() as made:
        yield made


def create_bucket(server: ScriptedServer, **settings: str) -> list[str]:
    """The methods of the requests that were needed."""
    values = {"s3_endpoint": server.url, "s3_access_key": "key", "s3_secret_key": "secret", "s3_bucket": "b", **settings}
    Runtime(Settings.model_validate(values)).create_bucket()
    return [asked.method for asked in server.asked]


def test_a_bucket_that_is_there_is_not_made_so_credentials_that_may_not_are_fine(server: ScriptedServer) -> None:
    server.answers = [OK]
    server.answer = refusal("AccessDenied")
    assert create_bucket(server) == ["HEAD"]


def test_a_missing_bucket_is_made_without_a_region_in_the_oldest_one(server: ScriptedServer) -> None:
    server.answers = [MISSING, OK]
    assert create_bucket(server) == ["HEAD", "PUT"]
    assert b"LocationConstraint" not in server.asked[-1].body


def test_a_missing_bucket_is_made_in_the_region_that_is_set(server: ScriptedServer) -> None:
    server.answers = [MISSING, OK]
    create_bucket(server, s3_region="eu-central-1")
    assert b"<LocationConstraint>eu-central-1</LocationConstraint>" in server.asked[-1].body


def test_a_bucket_that_somebody_made_meanwhile_is_fine(server: ScriptedServer) -> None:
    server.answers = [MISSING, refusal("BucketAlreadyOwnedByYou")]
    assert create_bucket(server) == ["HEAD", "PUT"]


@pytest.mark.parametrize("answers", [[FORBIDDEN], [MISSING, refusal("AccessDenied")]], ids=["look", "make"])
def test_refused_credentials_say_which_bucket_and_which_settings(
    server: ScriptedServer, answers: list[tuple[int, bytes]]
) -> None:
    server.answers = answers
    with pytest.raises(Unavailable, match=r"refused bucket 'b'.*AIGC_S3_ACCESS_KEY"):
        create_bucket(server)


def test_a_server_that_is_away_is_unavailable_with_its_address() -> None:
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1 did not answer"):
        Runtime(Settings(s3_endpoint="http://127.0.0.1:1")).create_bucket()
