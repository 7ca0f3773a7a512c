"""Records for tests: every field has a value, a test names those that it is about."""

from typing import Any

from aigc_core.jobs.specs import GenerationSpec, TrainingSpec


def a_generation_spec(**fields: Any) -> GenerationSpec:
    """1,000 grey 8×8 pictures without classes, in chunks of 128."""
    values: dict[str, Any] = {
        "model": "digits", "version": 1, "count": 1_000, "seed": 0, "latent_dim": 4, "width": 8, "height": 8, "channels": 1,
        "chunk_items": 128,
    }  # fmt: skip
    return GenerationSpec(**(values | fields))


def a_training_spec(**fields: Any) -> TrainingSpec:
    """A few steps on 32×32 grey pictures."""
    values: dict[str, Any] = {
        "model": "digits", "dataset": "digits", "dataset_fingerprint": "f" * 64, "preset": "quick-32", "size": 32,
        "channels": 1, "image_count": 100, "latent_dim": 8, "widths": (8, 8, 8), "batch_size": 8, "steps": 4,
        "minutes_max": 5.0, "learning_rate": 1e-3, "beta_1": 0.0, "penalty_weight": 1.0, "ema_half_life_images": 10,
        "augment_probability": 0.0,
    }  # fmt: skip
    return TrainingSpec(**(values | fields))
