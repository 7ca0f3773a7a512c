"""The flags of tensorflow_model_server, by their names and defaults, as far as this server follows them."""

import argparse
import os
from collections.abc import Sequence


def _boolean(text: str) -> bool:
    if text.lower() in ("true", "1"):
        return True
    if text.lower() in ("false", "0"):
        return False
    raise argparse.ArgumentTypeError(f"expected true or false, got {text!r}")


def parser() -> argparse.ArgumentParser:
    """All flags; `--flag=value` and `--flag value` both work, and a bare boolean flag means true."""
    made = argparse.ArgumentParser(prog="serving.embedded", allow_abbrev=False)
    cores = os.cpu_count() or 1

    def boolean(name: str, default: bool, text: str) -> None:
        made.add_argument(f"--{name}", type=_boolean, default=default, nargs="?", const=True, help=text)

    made.add_argument("--port", type=int, default=8500, help="gRPC port")
    made.add_argument("--bind_address", default="0.0.0.0", help="this server's own flag: 127.0.0.1 keeps it on the machine")
    made.add_argument("--model_name", default="default", help="name of the one model of --model_base_path")
    made.add_argument("--model_base_path", default="", help="base path of one model; ignored with --model_config_file")
    made.add_argument("--model_config_file", default="", help="text ModelServerConfig")
    made.add_argument("--model_config_file_poll_wait_seconds", type=float, default=0, help="0: read once")
    made.add_argument("--file_system_poll_wait_seconds", type=float, default=1, help="between looks for versions; 0: once")
    made.add_argument("--grpc_max_threads", type=int, default=4 * cores, help="requests in work at once")
    made.add_argument("--tensorflow_intra_op_parallelism", type=int, default=0, help="threads per request; 0: one")
    made.add_argument("--tensorflow_inter_op_parallelism", type=int, default=0, help="0: automatic")
    made.add_argument("--max_num_load_retries", type=int, default=5, help="further tries of a load that failed")
    made.add_argument("--load_retry_interval_micros", type=int, default=60_000_000, help="between those tries")
    boolean("enable_model_warmup", True, "replay assets.extra/tf_serving_warmup_requests while loading")
    boolean("enable_serialization_as_tensor_content", False, "send outputs as raw bytes instead of typed fields")
    return made


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The flags, or exit code 2 with the usage and the flag that is not known here."""
    made = parser()
    flags = made.parse_args(arguments)
    if not flags.model_config_file and not flags.model_base_path:
        made.error("expected --model_config_file, or --model_base_path with --model_name")
    return flags
