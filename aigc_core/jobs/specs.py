"""The validated description of a job: frozen, JSON in and out, refused whole when anything in it is wrong.

A spec that exists is a spec that can run: the model version is resolved, class names are looked up, presets are expanded.
What is checked here needs no outside system; `submit` checks the names against the stores before it builds one.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, Self

from aigc_core.errors import InvalidSpec
from aigc_core.jobs.order import Order, check_name, check_range

#: Pictures per job at most. Ten million is the largest order foreseen; a bitmap of its chunks is 5 KB in Redis.
COUNT_MAX = 10_000_000

#: Pictures per chunk: about a second of work, so a lost worker costs a second and a ticket's cost stays under 1 %.
CHUNK_ITEMS = 512

#: Pictures per Predict request. Batches are cut at multiples of this index and padded to it, so that one picture is
#: always computed in one shape and its bytes do not depend on the chunk size.
BATCH_ITEMS = 64

SEED_MAX = 2**63 - 1

SHA256_PATTERN = re.compile(r"[0-9a-f]{64}")

ImageFormat = Literal["png", "jpeg", "webp"]
IMAGE_FORMATS: tuple[ImageFormat, ...] = ("png", "jpeg", "webp")

#: One object per picture, or one tar shard per chunk: 512 times fewer requests to S3, and what a training reads as it is.
Packing = Literal["objects", "tar"]
PACKINGS: tuple[Packing, ...] = ("objects", "tar")


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationSpec(Order):
    """An order of `count` pictures; `items.items_of` says which they are.

    Item `i` has seed `seed + i` and class `classes[i % len(classes)]`, or, of a manifest, what line `i` of its blocks says.
    """

    model: str
    version: int  # resolved at submit and pinned: a new version never changes a running job
    dataset_fingerprint: str = ""  # of the pictures that the version was trained on, from its card
    count: int
    seed: int
    latent_dim: int
    width: int  # pixels
    height: int  # pixels
    channels: int  # 1 grey, 3 colour
    class_names: tuple[str, ...] = ()  # of the model, in label order; empty for a model without classes
    classes: tuple[str, ...] = ()  # repeated round robin; empty for a model without classes, and with a manifest
    format: ImageFormat = "png"
    packing: Packing = "objects"
    chunk_items: int = CHUNK_ITEMS
    manifest_sha256: str = ""  # of the lines in jobs/<job>/manifest/, uncompressed; empty for an order by seed and count

    def __post_init__(self) -> None:
        check_name(self.model, "model")
        self.check_order()
        check_range(self.version, "model version", 1, 2**63 - 1)
        check_range(self.count, "count", 1, COUNT_MAX)
        check_range(self.seed, "seed", 0, SEED_MAX - COUNT_MAX)
        check_range(self.latent_dim, "latent_dim", 1, 65_536)
        check_range(self.width, "width", 1, 4_096)
        check_range(self.height, "height", 1, 4_096)
        check_range(self.chunk_items, "chunk_items", BATCH_ITEMS, 65_536)
        if self.channels not in (1, 3):
            raise InvalidSpec(f"channels {self.channels}: expected 1 (grey) or 3 (colour)")
        if self.chunk_items % BATCH_ITEMS:
            raise InvalidSpec(f"chunk_items {self.chunk_items}: expected a multiple of the batch of {BATCH_ITEMS}")
        if self.format not in IMAGE_FORMATS:
            raise InvalidSpec(f"format {self.format!r}: expected one of {', '.join(IMAGE_FORMATS)}")
        if self.packing not in PACKINGS:
            raise InvalidSpec(f"packing {self.packing!r}: expected one of {', '.join(PACKINGS)}")
        if self.manifest_sha256:
            self._check_manifest()
        else:
            self._check_classes()

    def _check_manifest(self) -> None:
        if not SHA256_PATTERN.fullmatch(self.manifest_sha256):
            raise InvalidSpec(f"manifest_sha256 {self.manifest_sha256[:80]!r}: expected 64 hex digits")
        if self.seed or self.classes:
            raise InvalidSpec("seed and classes: an order by manifest has them in its lines; leave them out")

    def _check_classes(self) -> None:
        unknown = [name for name in self.classes if name not in self.class_names]
        if unknown and not self.class_names:
            raise InvalidSpec(f"class {unknown[0]!r}: model {self.model} has no classes; leave the classes out")
        if unknown:
            known = ", ".join(self.class_names[:12]) + (", …" if len(self.class_names) > 12 else "")
            raise InvalidSpec(f"class {unknown[0]!r}: model {self.model} knows {known}")
        if self.class_names and not self.classes:
            raise InvalidSpec(f"no class given, but model {self.model} has {len(self.class_names)}; name at least one")

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        return cls(**_read(cls, text, tuples=("class_names", "classes")))


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSpec(Order):
    """A training run with every choice written out; a preset is only where the choices came from."""

    model: str
    dataset: str
    dataset_fingerprint: str  # the state of the data set, resolved at submit
    preset: str
    size: int  # pixels, width and height
    channels: int  # 1 grey, 3 colour
    class_names: tuple[str, ...] = ()  # empty trains without classes
    image_count: int  # kept pictures of the data set
    latent_dim: int
    widths: tuple[int, ...]  # feature maps of the generator, lowest resolution first
    batch_size: int
    steps: int
    minutes_max: float  # the run ends, complete, after this time of training even before `steps`
    learning_rate: float
    beta_1: float
    penalty_weight: float  # gamma of the R1 gradient penalty on real pictures; 0 leaves it out
    ema_half_life_images: int  # of the exported generator's running average
    pixel_norm: bool = False  # the generator's features are normalised per pixel
    augment_probability: float  # of each differentiable augmentation, 0 switches them off
    seed: int = 0
    sample_every_steps: int = 250
    checkpoint_every_steps: int = 500

    def __post_init__(self) -> None:
        check_name(self.model, "model")
        check_name(self.dataset, "dataset")
        self.check_order()
        check_range(self.size, "size", 4, 1_024)
        check_range(self.image_count, "image_count", 1, 100_000_000)
        check_range(self.latent_dim, "latent_dim", 1, 65_536)
        check_range(self.batch_size, "batch_size", 2, 65_536)
        check_range(self.steps, "steps", 1, 100_000_000)
        check_range(self.minutes_max, "minutes", 0.01, 60 * 24 * 30)
        check_range(self.learning_rate, "learning_rate", 1e-8, 1)
        check_range(self.beta_1, "beta_1", 0, 0.9999)
        check_range(self.penalty_weight, "penalty_weight", 0, 1e6)
        check_range(self.ema_half_life_images, "ema_half_life_images", 0, 1e12)
        check_range(self.augment_probability, "augment_probability", 0, 1)
        check_range(self.seed, "seed", 0, 2**31 - 1)
        check_range(self.sample_every_steps, "sample_every_steps", 1, 100_000_000)
        check_range(self.checkpoint_every_steps, "checkpoint_every_steps", 1, 100_000_000)
        if self.channels not in (1, 3):
            raise InvalidSpec(f"channels {self.channels}: expected 1 (grey) or 3 (colour)")
        if not self.widths:
            raise InvalidSpec("widths: expected at least one number of feature maps")

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        return cls(**_read(cls, text, tuples=("class_names", "widths")))


def identity_of(spec: GenerationSpec | TrainingSpec) -> str:
    """A digest of what is ordered, without the times: an order that is repeated a minute later is the same order."""
    timeless = replace(spec, start_at=0.0, deadline_at=0.0, expires_at=0.0)
    return hashlib.blake2b(timeless.to_json().encode(), digest_size=16).hexdigest()


def _read(cls: type, text: str | bytes, *, tuples: tuple[str, ...]) -> dict[str, Any]:
    """The fields of a spec from JSON; unknown and missing ones are named."""
    try:
        values = json.loads(text)
    except ValueError as error:
        raise InvalidSpec(f"{cls.__name__}: not JSON ({error})") from error
    if not isinstance(values, Mapping):
        raise InvalidSpec(f"{cls.__name__}: expected a JSON object, got {type(values).__name__}")
    known = {field.name for field in fields(cls)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise InvalidSpec(f"{cls.__name__}: unknown field {unknown[0]!r}; expected some of {', '.join(sorted(known))}")
    read = {name: tuple(value) if name in tuples else value for name, value in values.items()}
    try:
        cls(**read)
    except TypeError as error:
        raise InvalidSpec(f"{cls.__name__}: {error}") from error
    return read
