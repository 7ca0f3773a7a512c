"""From settings to the real clients; nothing else builds them. Each is made at its first use and kept for the process."""

import os
import socket
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

from aigc_core.clock import Clock, SystemClock
from aigc_core.errors import Unavailable
from aigc_core.generation.predictor import Predictor
from aigc_core.jobs.execute import Executor
from aigc_core.jobs.redis_ledger import RedisLedger, connect
from aigc_core.storage.s3 import S3ObjectStore
from workers import metrics
from workers.settings import Settings, read_settings


class Runtime:
    """What a process works with."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.clock: Clock = SystemClock()

    @classmethod
    def from_env(cls) -> "Runtime":
        """The runtime that the environment describes; `InvalidSpec` for a setting that is wrong."""
        return cls(read_settings())

    @cached_property
    def ledger(self) -> RedisLedger:
        settings = self.settings
        client = connect(settings.redis_url.get_secret_value())
        return RedisLedger(client, window=settings.window, ticket_seconds=settings.ticket_seconds)

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
        """Make the bucket if it is not there; `Unavailable` when S3 does not answer."""
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError, ClientError

        settings = self.settings
        client = boto3.client(
            "s3",
            endpoint_url=settings.s3_endpoint or None,
            aws_access_key_id=settings.s3_access_key or None,
            aws_secret_access_key=settings.s3_secret_key.get_secret_value() or None,
            region_name=settings.s3_region,
            config=Config(connect_timeout=3, read_timeout=8, retries={"total_max_attempts": 2}),
        )
        try:
            client.create_bucket(Bucket=settings.s3_bucket)
        except ClientError as error:
            if error.response["Error"]["Code"] not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                raise Unavailable(f"S3 at {settings.s3_endpoint or 'AWS'} refused the bucket ({error})") from error
        except BotoCoreError as error:
            raise Unavailable(f"S3 at {settings.s3_endpoint or 'AWS'} did not answer ({error})") from error
