"""From a spec to a job that somebody may work on: archive first, then the ledger, then the tickets."""

import secrets
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from aigc_core import failpoints
from aigc_core.clock import Clock
from aigc_core.errors import AigcError, InvalidSpec, Unavailable
from aigc_core.jobs.ledger import Ledger
from aigc_core.jobs.records import Spec
from aigc_core.jobs.specs import GenerationSpec
from aigc_core.jobs.states import JobKind
from aigc_core.storage import layout
from aigc_core.storage.object_store import ObjectStore

#: Publishes so many tickets of a kind; raises `Unavailable` when the broker is away.
PublishTickets = Callable[[JobKind, int], None]


class Attachment(Protocol):
    """What an order consists of beside its spec: the pictures of a manifest."""

    def store(self, job_id: str, store: ObjectStore) -> None:
        """Put it below the job."""
        ...

    def remove(self, job_id: str, store: ObjectStore) -> None:
        """Take it away again; what is not there is no error."""
        ...


def new_job_id(kind: JobKind, clock: Clock) -> str:
    """An id that sorts by time and says what it is: `g` or `t`, 11 hex digits of milliseconds' time, 8 random ones."""
    return f"{kind[0]}{int(clock.now() * 1000):011x}{secrets.token_hex(4)}"


def submit(
    spec: Spec,
    *,
    ledger: Ledger,
    store: ObjectStore,
    publish: PublishTickets,
    clock: Clock,
    idempotency_key: str | None = None,
    attachment: Attachment | None = None,
) -> str:
    """The id of the accepted job. It is accepted once all of it is in S3, the spec last, and its record in the ledger.

    The same `idempotency_key` gives the same job, however often it is submitted by a team. A broker that is away after that
    costs nothing but time: the reaper publishes the tickets. `Unavailable` when S3 or the ledger cannot be reached;
    `QuotaExceeded` and `AlreadyOrdered` when the ledger refuses the order. Nothing of it is left behind then.
    """
    kind = JobKind.GENERATION if isinstance(spec, GenerationSpec) else JobKind.TRAINING
    if isinstance(spec, GenerationSpec) and spec.manifest_sha256 and attachment is None:
        raise InvalidSpec("an order by manifest came without its manifest; use Producer.generate_manifest")
    job_id = new_job_id(kind, clock)
    _put(job_id, spec, attachment, store)
    failpoints.hit("after_spec_put")
    try:
        submission = ledger.submit(job_id, spec, idempotency_key=idempotency_key or job_id)
    except InvalidSpec:
        _take_back(job_id, attachment, store)
        raise
    except Unavailable as error:
        # The order may have arrived: only its answer did not. Its id lets the caller look before ordering again.
        raise Unavailable(
            f"{error}; whether the order was taken is not known: see `aigc job {job_id}` before ordering again"
        ) from error
    failpoints.hit("after_submit")
    if not submission.is_new:
        _take_back(job_id, attachment, store)
        return submission.job_id
    with suppress(Unavailable):
        publish(kind, submission.tickets)
    failpoints.hit("after_submit_tickets")
    return submission.job_id


def _put(job_id: str, spec: Spec, attachment: Attachment | None, store: ObjectStore) -> None:
    """All of an order, or nothing of it."""
    try:
        if attachment is not None:
            attachment.store(job_id, store)
        store.put(layout.spec_key(job_id), spec.to_json().encode(), content_type="application/json")
    except AigcError:
        with suppress(AigcError):  # S3 may be away for this too; without its record in the ledger nothing is an order
            _take_back(job_id, attachment, store)
        raise


def _take_back(job_id: str, attachment: Attachment | None, store: ObjectStore) -> None:
    store.delete([layout.spec_key(job_id)])
    if attachment is not None:
        attachment.remove(job_id, store)
