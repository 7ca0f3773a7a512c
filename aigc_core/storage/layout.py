"""Every key that the system writes, in one place.

datasets/<name>/dataset.json                      the current card of a data set
datasets/<name>/<fingerprint>/shard-<n>.npz       the pictures of one state; their bytes follow from the fingerprint
datasets/<name>/<fingerprint>/dataset.json        the card of the last ingest that gave this state
models/<name>/<version>/model.json                the card of a published version
training/<job>/…                                  checkpoints, sample grids, metrics of a run
jobs/<job>/spec.json                              what was ordered
jobs/<job>/manifest/<block>.jsonl.gz              the ordered pictures, of a job whose order was a manifest
jobs/<job>/refused.jsonl                          lines of the manifest that were left out, and why
jobs/<job>/images/<hh>/<index>.<format>           the pictures; <hh> spreads them over 256 prefixes
jobs/<job>/shards/<chunk>.tar                     the pictures of one chunk, of a job that asked for tar shards
jobs/<job>/parts/<chunk>.jsonl                    result lines of one committed chunk
jobs/<job>/results.jsonl, errors.jsonl, summary.json, contact-sheet.png
"""

import hashlib


def dataset_folder(name: str) -> str:
    """Everything of one data set; ends in `/`."""
    return f"datasets/{name}/"


def dataset_card_key(name: str) -> str:
    """The current card of a data set."""
    return f"{dataset_folder(name)}dataset.json"


def dataset_prefix(name: str, fingerprint: str) -> str:
    """Where the shards of one state of a data set are; ends in `/`."""
    return f"{dataset_folder(name)}{fingerprint}/"


def model_prefix(name: str) -> str:
    """Where the cards of all versions of a model are; ends in `/`."""
    return f"models/{name}/"


def model_card_key(name: str, version: int) -> str:
    """The card of one published version."""
    return f"{model_prefix(name)}{version}/model.json"


def retired_card_key(name: str, version: int) -> str:
    """The card of a version that is no longer served; it keeps the number from being used again."""
    return f"{model_prefix(name)}{version}/retired.json"


def training_prefix(job_id: str) -> str:
    """Checkpoints, sample grids and metrics of one training job; ends in `/`."""
    return f"training/{job_id}/"


def job_prefix(job_id: str) -> str:
    """Everything that one job leaves; ends in `/`."""
    return f"jobs/{job_id}/"


def spec_key(job_id: str) -> str:
    """What was ordered, as JSON."""
    return f"{job_prefix(job_id)}spec.json"


def manifest_key(job_id: str, block: int) -> str:
    """One block of the ordered pictures; nine digits, so that key order is the order of the lines."""
    return f"{job_prefix(job_id)}manifest/{block:09d}.jsonl.gz"


def refused_key(job_id: str) -> str:
    """The lines of the manifest that were left out."""
    return f"{job_prefix(job_id)}refused.jsonl"


def image_key(job_id: str, index: int, extension: str) -> str:
    """One picture. The two hex digits come from the index, so that S3 can split the load by prefix."""
    spread = hashlib.blake2s(index.to_bytes(8, "big"), digest_size=1).hexdigest()
    return f"{job_prefix(job_id)}images/{spread}/{index:09d}.{extension}"


def shard_key(job_id: str, chunk: int) -> str:
    """The tar of the pictures of one chunk."""
    return f"{job_prefix(job_id)}shards/{chunk:09d}.tar"


def parts_prefix(job_id: str) -> str:
    """The result lines, one object per committed chunk; ends in `/`."""
    return f"{job_prefix(job_id)}parts/"


def part_key(job_id: str, chunk: int) -> str:
    """The result lines of one chunk; nine digits, so that key order is chunk order."""
    return f"{parts_prefix(job_id)}{chunk:09d}.jsonl"


def results_key(job_id: str) -> str:
    return f"{job_prefix(job_id)}results.jsonl"


def errors_key(job_id: str) -> str:
    return f"{job_prefix(job_id)}errors.jsonl"


def summary_key(job_id: str) -> str:
    return f"{job_prefix(job_id)}summary.json"


def contact_sheet_key(job_id: str) -> str:
    return f"{job_prefix(job_id)}contact-sheet.png"
