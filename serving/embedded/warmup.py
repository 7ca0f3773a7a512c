"""Replays the recorded requests of a version while it loads, so that the first real one is not the slow one."""

import struct
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.message import DecodeError

from serving.contract import WARMUP_PATH
from serving.embedded.engine import Engine, predict
from serving.protos import model_server_pb2 as pb

RECORDS_MAX = 1_000


def warm_up(engine: Engine, folder: Path) -> int:
    """How many records were replayed; 0 without a file. Raises ValueError or `RequestError`: the load has failed then."""
    path = folder / WARMUP_PATH
    if not path.exists():
        return 0
    count = 0
    for record in _records(path):
        count += 1
        if count > RECORDS_MAX:
            raise ValueError(f"Number of warmup records exceeds the maximum ({RECORDS_MAX}) at {path}")
        log = pb.PredictionLog()
        try:
            log.ParseFromString(record)
        except DecodeError:
            raise ValueError(f"Failed to parse warmup record: {path}") from None
        if log.WhichOneof("log_type") is None:
            raise ValueError("Unsupported log_type for warmup: only predict_log is replayed here")
        predict(engine, log.predict_log.request)
    return count


def _records(path: Path) -> Iterator[bytes]:
    """TFRecord: length (8 bytes), checksum (4), record, checksum (4). Lengths are checked, checksums are not."""
    content = path.read_bytes()
    position = 0
    while position < len(content):
        length = struct.unpack_from("<Q", content, position)[0] if position + 12 <= len(content) else len(content)
        end = position + 12 + length + 4
        if end > len(content):
            raise ValueError(f"{path} ends in the middle of a record. Please verify your warmup data is in TFRecord format.")
        yield content[position + 12 : end - 4]
        position = end
