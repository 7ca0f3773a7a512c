"""The textbook way, for comparison: one Celery task per picture, SavedModel in TensorFlow in the worker, Pillow, boto3.

A prefork worker with a process per core, early acknowledgement, no batching: what a first version of such a system is.
Started by `benchmarks.generation`, which sets the addresses in the environment.
"""

import io
import os
from functools import cache
from typing import Any

from celery import Celery

app = Celery("textbook", broker=os.environ.get("TEXTBOOK_BROKER"))
app.conf.update(task_ignore_result=True, worker_hijack_root_logger=False)


@cache
def _model() -> Any:
    import tensorflow as tf

    return tf.saved_model.load(os.environ["TEXTBOOK_MODEL"]).signatures["serving_default"]


@cache
def _s3() -> Any:
    import boto3

    return boto3.client("s3", endpoint_url=os.environ["TEXTBOOK_S3"], region_name="us-east-1")


@app.task
def generate(index: int) -> None:
    """One picture."""
    import numpy as np
    import tensorflow as tf
    from PIL import Image

    latents = np.random.default_rng(index).standard_normal((1, 128), dtype=np.float32)
    image = _model()(latents=tf.constant(latents))["images"].numpy()[0]
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    _s3().put_object(Bucket=os.environ["TEXTBOOK_BUCKET"], Key=f"textbook/{index}.png", Body=buffer.getvalue())
