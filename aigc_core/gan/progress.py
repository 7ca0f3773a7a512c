"""What a run says about itself while it trains, and the file of it that is kept."""

import json
from dataclasses import asdict, dataclass, field

from aigc_core.errors import NotFound
from aigc_core.storage.object_store import ObjectStore

#: Rows of metrics.jsonl at most; when full, every second one goes, so a run of any length keeps its whole course.
ROWS_MAX = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One look at a running training; a row of metrics.jsonl. Rates and losses are means since the last look."""

    step: int  # steps done
    steps: int  # of the whole run; it may end earlier, by time
    seconds: float  # trained so far, over all resumes
    images_per_second: float
    discriminator_loss: float  # ln 2 where real and fake are indistinguishable
    generator_loss: float
    penalty: float  # R1 + R2, before the weight
    sample_key: str = ""  # of the grid stored at this step, if one was


@dataclass(slots=True)
class MetricsFile:
    """`<prefix>metrics.jsonl`, whole: rows are added in memory and stored when a checkpoint is."""

    store: ObjectStore
    prefix: str
    rows: list[str] = field(default_factory=list)

    def restore(self, step: int) -> None:
        """Take over the stored rows up to `step`; later ones are trained again."""
        try:
            lines = self.store.get(self._key).decode().splitlines()
        except NotFound:
            lines = []
        self.rows = [line for line in lines if json.loads(line)["step"] <= step]

    def add(self, progress: Progress) -> None:
        if len(self.rows) >= ROWS_MAX:
            del self.rows[::2]
        self.rows.append(json.dumps(asdict(progress), separators=(",", ":")))

    def save(self) -> None:
        text = "".join(f"{row}\n" for row in self.rows)
        self.store.put(self._key, text.encode(), content_type="application/x-ndjson")

    @property
    def _key(self) -> str:
        return f"{self.prefix}metrics.jsonl"
