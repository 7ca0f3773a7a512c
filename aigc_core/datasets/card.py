"""What there is to know about one state of a data set; stored as dataset.json beside its shards."""

import json
from dataclasses import asdict, dataclass, field
from typing import Self

from aigc_core.errors import InvalidSpec

#: Broken files and dropped duplicates listed by name in a card; their counts are always whole.
LISTED_MAX = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One object with pictures."""

    key: str
    count: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetCard:
    """Counts, classes and shards of a data set. Pictures are uint8 in [0, 255], size × size × channels."""

    name: str
    fingerprint: str  # of the pixels, labels, class names, size and channels; equal input gives an equal one
    source: str
    size: int  # pixels
    channels: int
    class_names: tuple[str, ...]  # in label order; empty for a data set without classes
    class_counts: dict[str, int]  # kept pictures
    kept_count: int
    exact_duplicate_count: int
    perceptual_duplicate_count: int
    blank_count: int
    broken_count: int
    skipped_count: int  # files that are no pictures
    created_at: float
    shards: tuple[Shard, ...]
    broken: dict[str, str] = field(default_factory=dict)  # file → reason, the first LISTED_MAX
    duplicates: dict[str, str] = field(default_factory=dict)  # dropped file → the kept one, the first LISTED_MAX
    value_range: tuple[int, int] = (0, 255)

    def in_words(self) -> str:
        """One line for people."""
        duplicates = self.exact_duplicate_count + self.perceptual_duplicate_count
        return (
            f"data set {self.name}: {self.kept_count:,} pictures {self.size}×{self.size}×{self.channels} kept in "
            f"{len(self.class_names)} classes; dropped {duplicates:,} duplicates, {self.blank_count:,} blank, "
            f"{self.broken_count:,} broken; fingerprint {self.fingerprint[:12]}"
        )

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1, sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        try:
            values = json.loads(text)
            values["shards"] = tuple(Shard(**shard) for shard in values["shards"])
            values["class_names"] = tuple(values["class_names"])
            values["value_range"] = tuple(values["value_range"])
            return cls(**values)
        except (ValueError, TypeError, KeyError) as error:
            raise InvalidSpec(f"the card of a data set is unreadable ({error}); ingest the data set again") from error
