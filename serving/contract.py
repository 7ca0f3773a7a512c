"""All that the exporter, the server and the client share: names, dtypes, value ranges and the card of a version.

The signature `serving_default` of every published model:

    latents   float32 (N, latent_dim), N(0, 1), made by the caller from the seeds: the graph holds no random op
    labels    int32   (N,), positions in the card's `class_names`; only for a model with classes
    images  → uint8   (N, height, width, channels), 0 to 255
"""

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Self

from aigc_core.errors import InvalidSpec

SIGNATURE: Final = "serving_default"
LATENTS: Final = "latents"
LABELS: Final = "labels"
IMAGES: Final = "images"

#: Beside saved_model.pb, inside the version: TensorFlow Serving ignores what it does not know in assets.extra.
ONNX_PATH: Final = "assets.extra/model.onnx"
WARMUP_PATH: Final = "assets.extra/tf_serving_warmup_requests"
CARD_PATH: Final = "assets.extra/model.json"

#: The text ModelServerConfig below the base path, which the server polls (--model_config_file).
CONFIG_NAME: Final = "models.config"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """What there is to know about one published version; stored inside the version and in S3."""

    name: str
    version: int
    latent_dim: int
    height: int
    width: int
    channels: int
    class_names: tuple[str, ...]
    dataset: str
    dataset_fingerprint: str
    job_id: str
    code_revision: str
    created_at: float  # seconds since 1970 UTC
    spec: dict[str, Any] = field(default_factory=dict)  # the TrainingSpec
    figures: dict[str, float] = field(default_factory=dict)  # steps, seconds, images/s, export differences

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1, sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        try:
            values = json.loads(text)
            values["class_names"] = tuple(values["class_names"])
            return cls(**values)
        except (ValueError, TypeError, KeyError) as error:
            raise InvalidSpec(f"model card is unreadable ({error}); publish the version again") from error
