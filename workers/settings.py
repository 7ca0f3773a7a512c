"""The only reader of the environment: validated once at the start of a process, secrets hidden.

Values come from the environment (prefix AIGC_), else from `<AIGC_HOME>/stack.env`, which `aigc up` writes, else defaults.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from aigc_core import failpoints
from aigc_core.errors import InvalidSpec
from aigc_core.webhooks.sign import key_of

PREFIX = "AIGC_"

#: What both redis-py and Celery read in the same way. Anything looser has a part of the password taken for the host, and
#: told in every message about it.
REDIS_URL = re.compile(
    r"rediss?://"
    r"(?:[^\s:@/?#]*(?::[^\s@/?#]*)?@)?"  # user:password@
    r"(?:[\w.-]+|\[[0-9A-Fa-f:.]+\])"  # host
    r"(?::(?P<port>\d{1,5}))?"
    r"(?:/\d*)?"  # database
    r"(?:\?[\w.=&%/:-]*)?"  # options
)


class Settings(BaseModel):
    """Every setting of every process. A field `redis_url` is set by AIGC_REDIS_URL."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    home: Path = Path(".aigc")  # where the embedded stack keeps its data, logs and addresses
    redis_url: SecretStr = SecretStr("redis://127.0.0.1:6379/0")
    s3_endpoint: str = ""  # empty: AWS
    s3_bucket: str = "aigc"
    s3_access_key: str = ""
    s3_secret_key: SecretStr = SecretStr("")
    s3_region: str = "us-east-1"
    serving_targets: str = "127.0.0.1:8500"  # host:port, comma separated
    serving_deadline_seconds: float = Field(30.0, gt=0, le=600)
    model_base_path: Path = Path("models")  # where training publishes versions
    serving_base_path: str = ""  # how the model server sees the same folder; empty: by the same path
    team: str = "default"
    actor: str = ""  # who steers, for the audit record; empty: the user and the machine
    lease_seconds: float = Field(60.0, ge=1, le=3600)
    reap_interval_seconds: float = Field(5.0, ge=0.2, le=300)
    window: int = Field(32, ge=1, le=1024)
    worker_concurrency: int = Field(2, ge=1, le=64)
    metrics_host: str = "127.0.0.1"
    metrics_port: int = Field(0, ge=0, le=65535)  # 0: a free one
    log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")
    code_revision: str = "unknown"
    keep_jobs_days: float = Field(90.0, ge=0, le=36_500)  # how long the ledger remembers a job that has ended; 0: for ever
    webhook_secret: SecretStr = SecretStr("")  # whsec_ and base64; without it an order that names a webhook is refused
    # Webhooks also to addresses of our own network: only where everybody who orders may reach them.
    webhook_allow_private: bool = False
    stop_seconds: float = Field(10.0, ge=1, le=3600)  # a worker that is told to end hands back what is not done by then
    stuck_seconds: float = Field(120.0, ge=2, le=3600)  # a worker that takes nothing for so long though there is work ends
    cost_per_image: float = Field(0.0, ge=0)  # for the estimate of --dry-run, in any one currency; 0: not said
    cost_per_hour: float = Field(0.0, ge=0)  # of an order's duration; 0: not said
    retrain_every_hours: float = Field(0.0, ge=0, le=8760)  # 0: off
    retrain_dataset: str = ""
    retrain_model: str = ""
    retrain_preset: str = "dcgan-64"
    failpoints: str = ""  # for tests: where this process is to end, stop or fail; see aigc_core/failpoints.py

    @field_validator("redis_url")
    @classmethod
    def _redis_address(cls, value: SecretStr) -> SecretStr:
        found = REDIS_URL.fullmatch(value.get_secret_value())
        if found is None or int(found["port"] or 0) > 65_535:
            raise ValueError(
                "expected redis://[[user]:password@]host[:port][/database], with the password's special characters "
                "percent-encoded (# is %23, / %2F, ? %3F, @ %40)"
            )
        return value

    @field_validator("webhook_secret")
    @classmethod
    def _webhook_key(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value():
            try:
                key_of(value.get_secret_value())
            except InvalidSpec as error:
                raise ValueError(str(error)) from None
        return value

    @field_validator("failpoints")
    @classmethod
    def _failpoints(cls, value: str) -> str:
        try:
            failpoints.parse(value)
        except InvalidSpec as error:
            raise ValueError(str(error)) from error
        return value

    @field_validator("serving_targets")
    @classmethod
    def _targets(cls, value: str) -> str:
        for target in value.split(","):
            host, colon, port = target.strip().rpartition(":")
            if not (host and colon and port.isdigit()):
                raise ValueError("expected host:port, or several separated by commas")
        return value

    @property
    def targets(self) -> list[str]:
        return [target.strip() for target in self.serving_targets.split(",")]


def home() -> Path:
    """Where the embedded stack lives: AIGC_HOME, else .aigc below the current folder."""
    return Path(os.environ.get(PREFIX + "HOME", ".aigc"))


def given(name: str) -> str | None:
    """The setting exactly as the environment gives it, or None; the embedded stack asks which servers it need not start."""
    return os.environ.get(PREFIX + name.upper()) or None


def environment() -> dict[str, str]:
    """The whole environment, to hand on to a child process."""
    return dict(os.environ)


def stack_environment() -> dict[str, str]:
    """What `aigc up` wrote down: NAME=value lines; empty without an embedded stack."""
    path = home() / "stack.env"
    if not path.exists():
        return {}
    lines = (line.partition("=") for line in path.read_text().splitlines() if line and not line.startswith("#"))
    return {name: value for name, _, value in lines}


def read_settings() -> Settings:
    """The settings of this process; see `settings_from`."""
    stack = stack_environment()
    names = (PREFIX + name.upper() for name in Settings.model_fields)
    return settings_from({name: value for name in names if (value := os.environ.get(name) or stack.get(name))})


def settings_from(variables: Mapping[str, str]) -> Settings:
    """The settings that AIGC_… variables make.

    `InvalidSpec` names the first wrong variable, what was expected and, unless it is a secret, what it holds.
    """
    values = {name.removeprefix(PREFIX).lower(): value for name, value in variables.items()}
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = str(first["loc"][0])
        known = Settings.model_fields.get(name)
        shown = "" if known is None or known.annotation is SecretStr else f"={values.get(name)!r}"
        reason = first["msg"].removeprefix("Value error, ")
        raise InvalidSpec(f"setting {PREFIX}{name.upper()}{shown}: {reason}; mend it or unset it") from None
