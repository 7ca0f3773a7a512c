"""`python -m serving.embedded`: flags → catalogue → gRPC server, until SIGTERM."""

import argparse
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from google.protobuf import text_format

from serving.embedded.catalogue import Catalogue
from serving.embedded.flags import parse
from serving.embedded.service import Service, build_server
from serving.protos import model_server_pb2 as pb

log = logging.getLogger("serving.embedded")

#: Requests in flight at SIGTERM may end within this time.
GRACE_SECONDS = 10.0


def main() -> int:
    """Serve until SIGTERM or SIGINT; exit code 0 then, 255 when the port cannot be had."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr)
    flags = parse(sys.argv[1:])
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    catalogue = Catalogue(
        config_reader(flags),
        threads_per_request=flags.tensorflow_intra_op_parallelism,
        load_retries=flags.max_num_load_retries,
        retry_seconds=flags.load_retry_interval_micros / 1e6,
        warm=flags.enable_model_warmup,
    )
    try:
        catalogue.configure()
    except (OSError, text_format.ParseError) as error:
        print(f"Error parsing text-format tensorflow.serving.ModelServerConfig: {error}", file=sys.stderr)
        print(f"Failed to start server. Error: INVALID_ARGUMENT: {flags.model_config_file}: {error}")
        return 255
    opened = threading.Event()
    watcher = threading.Thread(target=watch, args=(catalogue, flags, opened, over), name="watch", daemon=True)
    watcher.start()
    while not opened.wait(0.1):
        if over.is_set():
            return 0
    service = Service(catalogue, tensor_content=flags.enable_serialization_as_tensor_content)
    server = build_server(service, threads=flags.grpc_max_threads)
    try:
        port = server.add_insecure_port(f"{flags.bind_address}:{flags.port}")
    except RuntimeError as error:
        print(f"Failed to start server. Error: UNKNOWN: {error}")
        return 255
    server.start()
    log.info("Running gRPC ModelServer at %s:%d ...", flags.bind_address, port)
    over.wait()
    server.stop(GRACE_SECONDS).wait()
    return 0


def config_reader(flags: argparse.Namespace) -> Callable[[], Iterable[pb.ModelConfig]]:
    """Where the list of models comes from: the config file, or the flags of the one model."""
    if not flags.model_config_file:
        only = pb.ModelConfig(name=flags.model_name, base_path=flags.model_base_path, model_platform="tensorflow")
        return lambda: [only]

    def read() -> Iterable[pb.ModelConfig]:
        config = pb.ModelServerConfig()
        text_format.Parse(Path(flags.model_config_file).read_text(), config)
        return list(config.model_config_list.config)

    return read


def watch(catalogue: Catalogue, flags: argparse.Namespace, opened: threading.Event, over: threading.Event) -> None:
    """Look for versions and read the config at their intervals; set `opened` once every model is settled."""
    config_seconds, file_seconds = flags.model_config_file_poll_wait_seconds, flags.file_system_poll_wait_seconds
    config_at = time.monotonic() + config_seconds
    while not over.is_set():
        catalogue.look()
        if catalogue.settled():
            opened.set()
            if file_seconds <= 0 and config_seconds <= 0:
                return
        over.wait(file_seconds if file_seconds > 0 else 1.0)
        if flags.model_config_file and config_seconds > 0 and time.monotonic() >= config_at:
            try:
                catalogue.configure()
            except (OSError, text_format.ParseError) as error:
                log.error("config not read, the old one stays: %s", error)
            config_at = time.monotonic() + config_seconds


if __name__ == "__main__":
    sys.exit(main())
