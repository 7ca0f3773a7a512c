"""The life of the embedded server: versions come and go, the config grows, a broken version harms nobody, SIGTERM drains."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import embedded_server
from serving_models import LATENT_DIM, write_onnx

from aigc_core.errors import AigcError
from serving.client import ServingPredictor, VersionStatus
from serving.repository import write_config

pytestmark = pytest.mark.slow

LATENTS = np.ones((2, LATENT_DIM), np.float32)
LABELS = np.zeros(2, np.int32)

#: Polls quickly and gives a broken version up at once.
QUICK = (
    "--file_system_poll_wait_seconds=1",
    "--model_config_file_poll_wait_seconds=1",
    "--max_num_load_retries=0",
)


def eventually(condition: Callable[[], bool], *, seconds: float = 15.0) -> None:
    """Ask until it holds; the server can only be asked, it tells nothing by itself."""
    pause = threading.Event()
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not so within {seconds} s"
        pause.wait(0.05)


def publish(base_path: Path, model: str, version: int, *, level: float = 127.5) -> None:
    building = write_onnx(base_path / model / ".tmp-build", level=level)
    os.rename(building, base_path / model / str(version))


@pytest.fixture
def base_path(tmp_path: Path) -> Path:
    publish(tmp_path, "ads", 1)
    write_config(tmp_path)
    return tmp_path


def states(client: ServingPredictor, model: str) -> dict[int, str]:
    return {status.version: status.state for status in client.model_status(model)}


def test_an_empty_repository_opens_the_port_at_once(tmp_path: Path) -> None:
    with embedded_server(tmp_path) as server:
        assert ServingPredictor([server.target]).model_status("ads") == []


def test_a_new_version_is_served_beside_the_pinned_one(base_path: Path) -> None:
    with embedded_server(base_path, *QUICK) as server:
        client = ServingPredictor([server.target])
        before = client.predict("ads", 1, LATENTS, labels=LABELS)

        publish(base_path, "ads", 2, level=30.0)

        eventually(lambda: states(client, "ads") == {2: "AVAILABLE", 1: "AVAILABLE"})
        assert np.array_equal(client.predict("ads", 1, LATENTS, labels=LABELS), before)
        assert not np.array_equal(client.predict("ads", 2, LATENTS, labels=LABELS), before)


def test_a_model_that_joins_the_config_is_picked_up(base_path: Path) -> None:
    with embedded_server(base_path, *QUICK) as server:
        client = ServingPredictor([server.target])

        publish(base_path, "shoes", 1)
        write_config(base_path)

        eventually(lambda: states(client, "shoes") == {1: "AVAILABLE"})


def test_a_missing_base_path_does_not_stop_the_other_models(base_path: Path) -> None:
    with embedded_server(base_path, *QUICK) as server:
        client = ServingPredictor([server.target])
        publish(base_path, "shoes", 1)
        write_config(base_path)
        os.rename(base_path / "shoes", base_path / ".away")

        publish(base_path, "ads", 2)

        eventually(lambda: states(client, "ads").get(2) == "AVAILABLE")


def test_a_broken_version_ends_with_its_error_and_leaves_the_good_one_serving(base_path: Path) -> None:
    with embedded_server(base_path, *QUICK) as server:
        client = ServingPredictor([server.target])

        (base_path / "ads" / "2").mkdir()

        eventually(lambda: states(client, "ads").get(2) == "END")
        broken: VersionStatus = client.model_status("ads")[0]
        assert broken.error_code != 0
        assert "does not appear to contain a SavedModel bundle" in broken.error_message
        assert len(client.predict("ads", 1, LATENTS, labels=LABELS)) == 2


def test_a_version_that_went_away_ends_without_an_error(base_path: Path) -> None:
    publish(base_path, "ads", 2)
    with embedded_server(base_path, *QUICK) as server:
        client = ServingPredictor([server.target])
        eventually(lambda: states(client, "ads") == {2: "AVAILABLE", 1: "AVAILABLE"})

        os.rename(base_path / "ads" / "1", base_path / "ads" / ".retired")

        eventually(lambda: states(client, "ads") == {2: "AVAILABLE", 1: "END"})
        publish(base_path, "ads", 3)  # seen in a later look of the server: the record has to stay as it is until then
        eventually(lambda: states(client, "ads").get(3) == "AVAILABLE")
        gone = client.model_status("ads")[-1]
        assert (gone.error_code, gone.error_message) == (0, "")


def test_sigterm_lets_the_requests_in_flight_end(base_path: Path) -> None:
    with embedded_server(base_path, *QUICK) as server:
        client = ServingPredictor([server.target])
        answered, failed, first = [], [], threading.Event()
        many = np.tile(np.arange(LATENT_DIM, dtype=np.float32), (20_000, 1))

        def ask() -> None:
            try:
                while True:
                    answered.append(len(client.predict("ads", 1, many, labels=np.zeros(len(many), np.int32))))
                    first.set()
            except AigcError as error:
                failed.append(str(error))

        asking = threading.Thread(target=ask)
        asking.start()
        assert first.wait(20)
        server.process.send_signal(signal.SIGTERM)
        asking.join(20)

        assert server.process.wait(20) == 0
        # Only a request that came after the signal is turned away; none is cut off half-way.
        assert failed
        assert "Socket closed" not in failed[0]
        assert "reset" not in failed[0]


def test_the_process_over_onnx_never_loads_tensorflow(base_path: Path) -> None:
    with embedded_server(base_path) as server:
        mapped = Path(f"/proc/{server.process.pid}/maps").read_text()

        assert "onnxruntime" in mapped
        assert "tensorflow" not in mapped


def run_to_its_end(*flags: str) -> subprocess.CompletedProcess[str]:
    """The server with these flags, which should refuse to start; TimeoutExpired if it serves instead."""
    command = [sys.executable, "-m", "serving.embedded", "--port=0", "--bind_address=127.0.0.1", *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=8)


def test_a_server_without_anything_to_serve_says_what_it_needs() -> None:
    ended = run_to_its_end()

    assert ended.returncode != 0
    assert "--model_config_file" in ended.stderr


def test_a_config_that_cannot_be_read_at_the_start_ends_the_server(tmp_path: Path) -> None:
    (tmp_path / "models.config").write_text("model_config_list { config { nmae: 'ads' } }")

    ended = run_to_its_end(f"--model_config_file={tmp_path / 'models.config'}")

    assert ended.returncode == 255
    assert "Error parsing text-format tensorflow.serving.ModelServerConfig" in ended.stderr


PRODUCTION_FLAGS = [
    "--rest_api_port=0",
    "--num_load_threads=2",
    "--num_unload_threads=1",
    "--allow_version_labels_for_unavailable_models=true",
    "--enable_grpc_healthcheck_service=true",
    "--grpc_channel_arguments=grpc.http2.min_ping_interval_without_data_ms=10000",
    "--monitoring_config_file=",
]
