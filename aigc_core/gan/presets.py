"""Recipes that were tried, by name. No TensorFlow here: a producer reads this to write a spec out.

A preset is where the choices come from; the spec that `training_spec` returns has every one of them written out.
"""

import difflib
from dataclasses import dataclass
from typing import Any

from aigc_core.errors import InvalidSpec
from aigc_core.jobs.specs import TrainingSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """The choices of a training run that do not depend on the data set, except for the size of its pictures."""

    summary: str
    size: int  # pixels, width and height, of the pictures it makes
    latent_dim: int
    widths: tuple[int, ...]
    batch_size: int
    steps: int
    minutes_max: float
    learning_rate: float
    beta_1: float
    penalty_weight: float
    ema_half_life_images: int
    augment_probability: float
    pixel_norm: bool
    sample_every_steps: int
    checkpoint_every_steps: int


PRESETS: dict[str, Preset] = {
    "quick-32": Preset(
        summary="small pictures in a minute or two on two cores: a first run, digits, icons",
        size=32, latent_dim=64, widths=(256, 128, 64), batch_size=64, steps=900, minutes_max=2.0,
        learning_rate=2e-3, beta_1=0.0, penalty_weight=0.5, ema_half_life_images=10_000, augment_probability=0.0,
        pixel_norm=False, sample_every_steps=150, checkpoint_every_steps=300,
    ),
    "dcgan-64": Preset(
        summary="64×64 pictures with a DCGAN generator: minutes for colours and textures, hours for shapes",
        size=64, latent_dim=128, widths=(256, 128, 64, 32), batch_size=32, steps=100_000, minutes_max=60.0,
        learning_rate=1e-3, beta_1=0.5, penalty_weight=3.0, ema_half_life_images=20_000, augment_probability=0.2,
        pixel_norm=True, sample_every_steps=250, checkpoint_every_steps=500,
    ),
}  # fmt: skip


def training_spec(
    preset_name: str, *, model: str, dataset: str, dataset_fingerprint: str, size: int, channels: int,
    class_names: tuple[str, ...], image_count: int, **overrides: Any,
) -> TrainingSpec:  # fmt: skip
    """The spec of a run of a preset on one state of a data set; `overrides` are fields of `TrainingSpec`.

    `size` (pixels), `channels`, `class_names` and `image_count` are the data set's. `InvalidSpec` for an unknown preset
    or field, and for pictures of a size that the preset cannot make.
    """
    preset = _preset(preset_name)
    if size != preset.size:
        raise InvalidSpec(_wrong_size(preset_name, preset=preset, dataset=dataset, size=size))
    values: dict[str, Any] = {
        name: getattr(preset, name) for name in Preset.__dataclass_fields__ if name not in ("summary", "size")
    }
    unknown = sorted(set(overrides) - set(TrainingSpec.__dataclass_fields__))
    if unknown:
        raise InvalidSpec(f"training option {unknown[0]!r}: expected one of {', '.join(sorted(values))}")
    return TrainingSpec(
        model=model, dataset=dataset, dataset_fingerprint=dataset_fingerprint, preset=preset_name, size=size,
        channels=channels, class_names=class_names, image_count=image_count, **(values | overrides),
    )  # fmt: skip


def presets_for_size(size: int) -> list[str]:
    """The names of the presets that make pictures of `size` pixels, in order; empty where there is none."""
    return sorted(name for name, preset in PRESETS.items() if preset.size == size)


def _preset(name: str) -> Preset:
    if name in PRESETS:
        return PRESETS[name]
    nearest = difflib.get_close_matches(name, PRESETS, n=1, cutoff=0.4)
    hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
    raise InvalidSpec(f"preset {name!r} does not exist; expected one of {', '.join(sorted(PRESETS))}{hint}")


def _wrong_size(name: str, *, preset: Preset, dataset: str, size: int) -> str:
    fitting = presets_for_size(size)
    other = f"choose preset {' or '.join(fitting)}, or " if fitting else ""
    return (
        f"preset {name} makes {preset.size}×{preset.size} pictures, but data set {dataset} has {size}×{size}; "
        f"{other}ingest the data set again with --size {preset.size}"
    )
