"""The Python door: check names against the stores, build the spec, submit it.

from workers.producer import Producer
job_id = Producer.from_env().generate(model="digits", count=1000)
"""

from contextlib import suppress
from typing import Any, Self

from aigc_core.datasets.shards import read_card as read_dataset_card
from aigc_core.errors import InvalidSpec, Unavailable
from aigc_core.gan.presets import PRESETS, presets_for_size, training_spec
from aigc_core.jobs.records import Job, Spec
from aigc_core.jobs.specs import (
    COUNT_MAX,
    IMAGE_FORMATS,
    PACKINGS,
    SEED_MAX,
    GenerationSpec,
    check_name,
    check_range,
)
from aigc_core.jobs.submit import submit
from serving.contract import ModelCard
from serving.repository import read_card
from workers.bootstrap import Runtime
from workers.queues import publish_tickets


class Producer:
    """Everything that a program needs to order pictures."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    @classmethod
    def from_env(cls) -> Self:
        """A producer for the servers that the settings name."""
        return cls(Runtime.from_env())

    def submit(self, spec: Spec, *, idempotency_key: str | None = None) -> str:
        """The id of the accepted job; `Unavailable` when S3 or Redis is away (nothing is enqueued then)."""
        made = self._runtime
        return submit(
            spec,
            ledger=made.ledger,
            store=made.store,
            publish=publish_tickets,
            clock=made.clock,
            idempotency_key=idempotency_key,
        )

    def generate(
        self,
        *,
        model: str,
        count: int,
        version: int | None = None,
        seed: int = 0,
        classes: tuple[str, ...] = (),
        image_format: str = "png",
        packing: str = "objects",
        idempotency_key: str | None = None,
        **choices: Any,
    ) -> str:
        """Order `count` pictures; without `version` the newest one, without `classes` all of the model's, in turn.

        `choices` are further fields of `GenerationSpec`. `InvalidSpec` says what is wrong; nothing is enqueued then.
        """
        check_name(model, "model")
        check_range(count, "count", 1, COUNT_MAX)
        check_range(seed, "seed", 0, SEED_MAX - COUNT_MAX)
        if image_format not in IMAGE_FORMATS:
            raise InvalidSpec(f"format {image_format!r}: expected one of {', '.join(IMAGE_FORMATS)}")
        if packing not in PACKINGS:
            raise InvalidSpec(f"packing {packing!r}: expected one of {', '.join(PACKINGS)}")
        self._runtime.ledger.ping()
        card = read_card(self._runtime.store, model, version)
        choices |= {"format": image_format, "packing": packing}  # the spec checks them
        spec = generation_spec(card, count=count, seed=seed, classes=classes, **choices)
        return self.submit(spec, idempotency_key=idempotency_key)

    def train(self, *, dataset: str, model: str, preset: str | None = None, **choices: Any) -> str:
        """Order a training run on the newest state of a data set. `choices` are fields of `TrainingSpec`."""
        check_name(model, "model")
        check_name(dataset, "dataset")
        self._runtime.ledger.ping()
        card = read_dataset_card(self._runtime.store, dataset)
        fitting = presets_for_size(card.size) or list(PRESETS)
        spec = training_spec(
            preset or fitting[0],
            model=model,
            dataset=card.name,
            dataset_fingerprint=card.fingerprint,
            size=card.size,
            channels=card.channels,
            class_names=card.class_names,
            image_count=card.kept_count,
            **choices,
        )
        return self.submit(spec)

    def job(self, job_id: str) -> Job:
        """One job as it is now; `NotFound`."""
        return self._runtime.ledger.job(job_id)

    def cancel(self, job_id: str) -> Job:
        """Ask for the job's end; what was made is kept."""
        ledger = self._runtime.ledger
        tickets = ledger.cancel(job_id)
        job = ledger.job(job_id)
        with suppress(Unavailable):  # the reaper publishes them then
            publish_tickets(job_id, job.kind, tickets)
        return job


def generation_spec(card: ModelCard, *, count: int, seed: int, classes: tuple[str, ...], **choices: Any) -> GenerationSpec:
    """The full spec of an order on a published version."""
    return GenerationSpec(
        model=card.name,
        version=card.version,
        count=count,
        seed=seed,
        latent_dim=card.latent_dim,
        width=card.width,
        height=card.height,
        channels=card.channels,
        class_names=card.class_names,
        classes=classes or card.class_names,
        **choices,
    )
