"""What is refused in a setting, and that a refusal tells no secret."""

from pathlib import Path

import pytest

from aigc_core.errors import InvalidSpec
from aigc_core.jobs.redis_ledger import RedisLedger, connect
from workers.settings import Settings, read_settings, settings_from


@pytest.fixture(autouse=True)
def _no_stack(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AIGC_HOME", str(tmp_path))


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://localhost", "localhost:6379"),
        ("redis://redis:6380/0", "redis:6380"),
        ("redis://:0123abcd@redis:6379/0", "redis:6379"),
        ("redis://user:pa:s%23%2F%40s@10.0.0.1:6379/1", "10.0.0.1:6379"),
        ("rediss://:pass@redis.example.com:6379/0?ssl_cert_reqs=required", "redis.example.com:6379"),
        ("redis://:pass@[::1]:6379/0", "::1:6379"),
    ],
)
def test_an_address_of_redis_is_taken(url: str, address: str) -> None:
    taken = settings_from({"AIGC_REDIS_URL": url}).redis_url.get_secret_value()
    assert RedisLedger(connect(taken)).address == address


@pytest.mark.parametrize(
    "url",
    [
        "localhost:6379",
        "secret",
        "http://:secret@redis:6379/0",
        "redis://:sec#ret@redis:6379/0",
        "redis://:sec/ret@redis:6379/0",
        "redis://:sec?ret@redis:6379/0",
        "redis://:sec@ret@redis:6379/0",
        "redis://:sec@ret/x@redis:6379/0",
        "redis://:secret@redis:port/0",
        "redis://:secret@redis:99999/0",
        "redis://:secret@redis:6379/zero",
        "redis://:secret@redis:6379/0?x=@redis",
        "redis://:secret@/0",
        "redis://:secret ret@redis:6379/0",
    ],
)
def test_what_is_no_address_of_redis_is_refused_and_no_part_of_it_told(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("AIGC_REDIS_URL", url)
    with pytest.raises(InvalidSpec, match="AIGC_REDIS_URL: expected redis://") as caught:
        read_settings()
    assert "sec" not in str(caught.value)
    assert "localhost" not in str(caught.value)
    assert "%23" in str(caught.value)


def test_a_refusal_names_the_variable_what_it_holds_and_what_was_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIGC_LEASE_SECONDS", "soon")
    with pytest.raises(InvalidSpec, match=r"AIGC_LEASE_SECONDS='soon': .*number"):
        read_settings()
    with pytest.raises(InvalidSpec, match=r"AIGC_SERVING_TARGETS='here': expected host:port"):
        settings_from({"AIGC_SERVING_TARGETS": "here"})


def test_a_variable_that_is_no_setting_is_refused_without_its_value() -> None:
    with pytest.raises(InvalidSpec, match="AIGC_REDIS_PASSWORD") as caught:
        settings_from({"AIGC_REDIS_PASSWORD": "secret"})
    assert "secret" not in str(caught.value)


def test_secrets_are_hidden_when_settings_are_printed() -> None:
    settings = Settings.model_validate({"redis_url": "redis://:secret@redis", "s3_secret_key": "secret"})
    assert "secret@" not in repr(settings)
    assert "'secret'" not in repr(settings)


def test_a_webhook_secret_is_checked_and_never_told() -> None:
    assert settings_from({"AIGC_WEBHOOK_SECRET": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}).webhook_secret
    with pytest.raises(InvalidSpec, match=r"AIGC_WEBHOOK_SECRET: .*openssl rand") as caught:
        settings_from({"AIGC_WEBHOOK_SECRET": "hunter2hunter2"})
    assert "hunter2" not in str(caught.value)
