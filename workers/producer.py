"""The Python door: check names against the stores, build the spec, submit it.

from workers.producer import Producer
job_id = Producer.from_env().generate(model="digits", count=1000)
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from aigc_core.datasets.shards import read_card as read_dataset_card
from aigc_core.errors import InvalidSpec, Unavailable
from aigc_core.gan.presets import PRESETS, presets_for_size, training_spec
from aigc_core.generation.papers import Papers
from aigc_core.jobs.estimate import Estimate, Prices, estimate
from aigc_core.jobs.manifest.read import Manifest, read_manifest
from aigc_core.jobs.order import check_name, check_range
from aigc_core.jobs.records import By, Job, Retried, Spec
from aigc_core.jobs.specs import (
    COUNT_MAX,
    IMAGE_FORMATS,
    PACKINGS,
    SEED_MAX,
    GenerationSpec,
    ImageFormat,
)
from aigc_core.jobs.submit import Attachment, submit
from serving.contract import ModelCard
from serving.repository import read_card
from workers.bootstrap import Runtime
from workers.queues import top_up_tickets

#: Jobs that an estimate looks through for finished ones of the model, newest first.
LOOKED_AT_MAX = 1_000


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

    def _submit(self, spec: Spec, *, idempotency_key: str | None, attachment: Attachment | None = None) -> str:
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
            attachment=attachment,
        )

    def generate(self, *, model: str, count: int, idempotency_key: str | None = None, **choices: Any) -> str:
        """Order `count` pictures; `choices` are those of `specify`.

        `InvalidSpec` says what is wrong; nothing is enqueued then.
        """
        return self._submit(self.specify(model=model, count=count, **choices), idempotency_key=idempotency_key)

    def specify(
        self,
        *,
        model: str,
        count: int,
        version: int | None = None,
        seed: int = 0,
        classes: tuple[str, ...] = (),
        image_format: str = "png",
        packing: str = "objects",
        **choices: Any,
    ) -> GenerationSpec:
        """The checked order of `count` pictures; nothing is enqueued.

        Without `version` the newest one, without `classes` all of the model's, in turn. `choices` are further fields of
        `GenerationSpec`.
        """
        check_range(count, "count", 1, COUNT_MAX)
        check_range(seed, "seed", 0, SEED_MAX - COUNT_MAX)
        card = self._card(model, version, image_format=image_format, packing=packing)
        choices = {"team": self._runtime.settings.team, "format": image_format, "packing": packing} | choices
        return generation_spec(card, count=count, seed=seed, classes=classes or card.class_names, **choices)

    def generate_manifest(
        self, path: Path, *, model: str, skip_bad: bool = False, idempotency_key: str | None = None, **choices: Any
    ) -> str:
        """Order what a manifest lists: a .csv or .jsonl with a picture a line, or a matrix in .json or .yaml.

        `ManifestRefused` when a line is wrong, unless `skip_bad` leaves such lines out; `choices` are those of
        `specify_manifest`.
        """
        with self.specify_manifest(path, model=model, skip_bad=skip_bad, **choices) as (spec, manifest):
            return self.order_manifest(spec, manifest, idempotency_key=idempotency_key)

    @contextmanager
    def specify_manifest(
        self,
        path: Path,
        *,
        model: str,
        version: int | None = None,
        image_format: ImageFormat = "png",
        packing: str = "objects",
        skip_bad: bool = False,
        **choices: Any,
    ) -> Iterator[tuple[GenerationSpec, Manifest]]:
        """The order that a manifest makes, with every line checked; nothing is enqueued. Errors as `generate_manifest`."""
        card = self._card(model, version, image_format=image_format, packing=packing)
        choices = {"team": self._runtime.settings.team, "format": image_format, "packing": packing} | choices
        generation_spec(card, count=1, seed=0, classes=card.class_names, **choices)  # refused before a long file is read
        names = card.class_names
        with read_manifest(path, model=model, class_names=names, image_format=image_format, skip_bad=skip_bad) as manifest:
            choices["manifest_sha256"] = manifest.blocks.sha256
            yield generation_spec(card, count=manifest.count, seed=0, classes=(), **choices), manifest

    def order_manifest(self, spec: GenerationSpec, manifest: Manifest, *, idempotency_key: str | None = None) -> str:
        """The id of the accepted job of a manifest that is open."""
        return self._submit(spec, idempotency_key=idempotency_key, attachment=manifest)

    def estimate(self, spec: GenerationSpec, *, formats: Mapping[str, int] | None = None) -> Estimate:
        """What an order would come to, by the model's finished orders. `formats`: its pictures by format, if mixed."""
        settings = self._runtime.settings
        prices = Prices(per_image=settings.cost_per_image, per_hour=settings.cost_per_hour)
        jobs = self._runtime.ledger.jobs(count_max=LOOKED_AT_MAX)
        return estimate(spec, formats=formats or {spec.format: spec.count}, jobs=jobs, prices=prices)

    def results(self, job_id: str) -> Iterator[dict[str, Any]]:
        """What a job has made until now, picture by picture: index, seed, class, id, key, sha256, bytes."""
        for part in self.papers(job_id).results():
            yield from map(json.loads, part.splitlines())

    def papers(self, job_id: str) -> Papers:
        """Result lines, errors and summary of a job, finished or not; `NotFound`."""
        return Papers(job_id, ledger=self._runtime.ledger, store=self._runtime.store)

    def _card(self, model: str, version: int | None, *, image_format: str, packing: str) -> ModelCard:
        check_name(model, "model")
        if image_format not in IMAGE_FORMATS:
            raise InvalidSpec(f"format {image_format!r}: expected one of {', '.join(IMAGE_FORMATS)}")
        if packing not in PACKINGS:
            raise InvalidSpec(f"packing {packing!r}: expected one of {', '.join(PACKINGS)}")
        self._runtime.ledger.ping()
        return read_card(self._runtime.store, model, version)

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
        dataset_fingerprint=card.dataset_fingerprint,
        count=count,
        seed=seed,
        latent_dim=card.latent_dim,
        width=card.width,
        height=card.height,
        channels=card.channels,
        class_names=card.class_names,
        classes=classes,
        **choices,
    )
