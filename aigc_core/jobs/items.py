"""Which pictures an order is: the one answer for orders by seed and count and for manifests."""

from dataclasses import dataclass

from aigc_core.jobs.manifest.blocks import read_blocks
from aigc_core.jobs.specs import GenerationSpec, ImageFormat
from aigc_core.storage.object_store import ObjectStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One picture of a job, before it is made."""

    index: int  # place in the job
    seed: int
    class_name: str | None  # None for a model without classes
    format: ImageFormat
    id: str = ""  # the customer's own name for it; empty without one

    @property
    def facts(self) -> dict[str, object]:
        """What every record of the picture begins with."""
        facts: dict[str, object] = {"index": self.index, "seed": self.seed, "class": self.class_name}
        return facts | {"id": self.id} if self.id else facts


def items_of(spec: GenerationSpec, indexes: range, *, job_id: str, store: ObjectStore) -> list[Item]:
    """The items at these indexes, in order; those of a manifest come from its blocks in S3: see `read_blocks`."""
    if not spec.manifest_sha256:
        return [plain_item(spec, index) for index in indexes]
    return [
        Item(
            index=line["index"],
            seed=line["seed"],
            class_name=line["class"],
            format=line.get("format", spec.format),
            id=line.get("id", ""),
        )
        for line in read_blocks(store, job_id=job_id, indexes=indexes)
    ]


def plain_item(spec: GenerationSpec, index: int) -> Item:
    """Seeds count up, classes take turns."""
    class_name = spec.classes[index % len(spec.classes)] if spec.classes else None
    return Item(index=index, seed=spec.seed + index, class_name=class_name, format=spec.format)
