"""The Python door: check names against the stores, build the spec, submit it.

from workers.producer import Producer
job_id = Producer.from_env().generate(model="digits", count=1000)
"""

from contextlib import suppress
from typing import Any, Self

from aigc_core.datasets.shards import read_card as read_dataset_card
from aigc_core.errors import InvalidSpec, Unavailable
from aigc_core.gan.presets import PRESETS, presets_for_size, training_spec
from aigc_core.jobs.order import check_name, check_range
from aigc_core.jobs.records import By, Job, Retried, Spec
from aigc_core.jobs.specs import (
    COUNT_MAX,
    IMAGE_FORMATS,
    PACKINGS,
    SEED_MAX,
    GenerationSpec,
)
from aigc_core.jobs.submit import submit
from serving.contract import ModelCard
from serving.repository import read_card
from workers.bootstrap import Runtime
from workers.queues import top_up_tickets


class Producer:
    """Everything that a program needs to order pictures."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    @classmethod
    def from_env(cls) -> Self:
        """A producer for the servers that the settings name."""
        return cls(Runtime.from_env())

    def submit(self, spec: Spec, *, idempotency_key: str | None = None) -> str:
        """The id of the accepted job.

        `NotFound` when the model version, or the state of the data set, is not there; `QuotaExceeded` when the team has no
        room for all of it; `Unavailable` when S3 or Redis is away.
        """
        if isinstance(spec, GenerationSpec):
            read_card(self._runtime.store, spec.model, spec.version)
        else:
            read_dataset_card(self._runtime.store, spec.dataset)
        return self._submit(spec, idempotency_key=idempotency_key)

    def _submit(self, spec: Spec, *, idempotency_key: str | None) -> str:
        made = self._runtime
        if spec.webhook and not made.settings.webhook_secret.get_secret_value():
            raise InvalidSpec(
                f"webhook {spec.webhook}: there is no secret to sign it with; set AIGC_WEBHOOK_SECRET to whsec_ and the "
                "base64 of at least 24 random bytes here and at the workers, or leave the webhook out"
            )
        return submit(
            spec,
            ledger=made.ledger,
            store=made.store,
            publish=top_up_tickets,
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
        choices = {"team": self._runtime.settings.team, "format": image_format, "packing": packing} | choices
        spec = generation_spec(card, count=count, seed=seed, classes=classes, **choices)
        return self._submit(spec, idempotency_key=idempotency_key)

    def train(
        self, *, dataset: str, model: str, preset: str | None = None, idempotency_key: str | None = None, **choices: Any
    ) -> str:
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
            **({"team": self._runtime.settings.team} | choices),
        )
        return self._submit(spec, idempotency_key=idempotency_key)

    def job(self, job_id: str) -> Job:
        """One job as it is now; `NotFound`."""
        return self._runtime.ledger.job(job_id)

    def cancel(self, job_id: str, *, by: By, hard: bool = True) -> Job:
        """End a job early; what was made is kept. Soft: chunks in work are finished first."""
        return self._steered(job_id, self._runtime.ledger.cancel(job_id, by, hard=hard))

    def pause(self, job_id: str, *, by: By) -> Job:
        """Hand out no more chunks of a job until `resume`."""
        return self._steered(job_id, self._runtime.ledger.pause(job_id, by))

    def resume(self, job_id: str, *, by: By) -> Job:
        """Undo `pause`."""
        return self._steered(job_id, self._runtime.ledger.resume(job_id, by))

    def prioritise(self, job_id: str, priority: int, *, by: By) -> Job:
        """Change a job's priority: 0 is served first."""
        return self._steered(job_id, self._runtime.ledger.prioritise(job_id, priority, by))

    def retry(
        self, job_id: str, *, by: By, fingerprint: str = "", chunks_per_second: float = 0, dry_run: bool = False
    ) -> Retried:
        """Make again what a job gave up, all of it or the failures of one fingerprint."""
        ledger = self._runtime.ledger
        retried = ledger.retry(job_id, by, fingerprint=fingerprint, chunks_per_second=chunks_per_second, dry_run=dry_run)
        self._steered(job_id, retried.more)
        return retried

    def _steered(self, job_id: str, more: bool) -> Job:
        job = self._runtime.ledger.job(job_id)
        if more:
            with suppress(Unavailable):  # the reaper publishes them then
                top_up_tickets(job.kind, job.chunk_count)
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
