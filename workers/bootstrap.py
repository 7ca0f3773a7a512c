"""From settings to the real clients; nothing else builds them. Each is made at its first use and kept for the process."""

import os
import socket
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING, cast

from aigc_core import failpoints
from aigc_core.clock import Clock, SystemClock
from aigc_core.errors import Unavailable
from aigc_core.generation.predictor import Predictor
from aigc_core.jobs.execute import Executor
from aigc_core.jobs.redis_ledger import RedisLedger, connect
from aigc_core.storage.s3 import S3ObjectStore
from aigc_core.webhooks.deliveries import Deliveries
from workers import metrics
from workers.settings import Settings, read_settings

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_s3.literals import BucketLocationConstraintType


class Runtime:
    """What a process works with."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.clock: Clock = SystemClock()

    @classmethod
    def from_env(cls) -> "Runtime":
        """The runtime that the environment describes, failpoints armed; `InvalidSpec` for a setting that is wrong."""
        settings = read_settings()
        failpoints.arm(settings.failpoints)
        return cls(settings)

    @cached_property
    def ledger(self) -> RedisLedger:
        settings = self.settings
        client = connect(settings.redis_url.get_secret_value())
        return RedisLedger(client, window=settings.window)

    @cached_property
    def store(self) -> S3ObjectStore:
        return self.bucket(self.settings.s3_bucket)

    def bucket(self, name: str) -> S3ObjectStore:
        """A store over any bucket of the same S3."""
        settings = self.settings
        return S3ObjectStore(
            name,
            endpoint=settings.s3_endpoint or None,
            access_key=settings.s3_access_key,
            secret_key=settings.s3_secret_key.get_secret_value(),
            region=settings.s3_region,
            on_request=metrics.observe_s3,
        )

    @cached_property
    def predictor(self) -> Predictor:
        from serving.client import ServingPredictor  # gRPC: 20 MB that a producer does not need

        return ServingPredictor(
            self.settings.targets,
            deadline_seconds=self.settings.serving_deadline_seconds,
            on_request=metrics.observe_serving,
        )

    @cached_property
    def deliveries(self) -> Deliveries:
        """The webhooks, in the ledger's Redis."""
        return Deliveries(connect(self.settings.redis_url.get_secret_value()))

    @cached_property
    def threads(self) -> ThreadPoolExecutor:
        """For a chunk's requests and encoding: what each chunk in work keeps busy."""
        return ThreadPoolExecutor(4 * self.settings.worker_concurrency, thread_name_prefix="chunk")

    @cached_property
    def executor(self) -> Executor:
        return Executor(
            ledger=self.ledger,
            clock=self.clock,
            worker=f"{socket.gethostname()}-{os.getpid()}",
            lease_seconds=self.settings.lease_seconds,
        )

    def create_bucket(self) -> None:
        """Make the bucket if it is not there; `Unavailable` when S3 does not answer, or refuses the credentials."""
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError, ClientError

        settings = self.settings
        where = f"S3 at {settings.s3_endpoint or 'AWS'}"
        client = boto3.client(
            "s3",
            endpoint_url=settings.s3_endpoint or None,
            aws_access_key_id=settings.s3_access_key or None,
            aws_secret_access_key=settings.s3_secret_key.get_secret_value() or None,
            region_name=settings.s3_region,
            config=Config(connect_timeout=3, read_timeout=8, retries={"total_max_attempts": 2}),
        )
        try:
            if not _has_bucket(client, settings.s3_bucket):
                _make_bucket(client, settings.s3_bucket, region=settings.s3_region)
        except ClientError as error:
            raise Unavailable(
                f"{where} refused bucket {settings.s3_bucket!r} ({error}); "
                "check AIGC_S3_ACCESS_KEY and AIGC_S3_SECRET_KEY, and that they may use it"
            ) from error
        except BotoCoreError as error:
            raise Unavailable(f"{where} did not answer ({error})") from error


def _has_bucket(client: "S3Client", bucket: str) -> bool:
    """Asked before anything is made: in production the credentials often may not create what is there already."""
    from botocore.exceptions import ClientError

    try:
        client.head_bucket(Bucket=bucket)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
            return False
        raise
    return True


def _make_bucket(client: "S3Client", bucket: str, *, region: str) -> None:
    """Everywhere but in the oldest region, AWS wants to be told the region; there, it refuses to be."""
    from botocore.exceptions import ClientError

    try:
        if region == "us-east-1":
            client.create_bucket(Bucket=bucket)
        else:
            constraint = cast("BucketLocationConstraintType", region)
            client.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": constraint})
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
            raise
