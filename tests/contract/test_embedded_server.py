"""The life of the embedded server: versions come and go, the config grows, a broken version harms nobody, SIGTERM drains."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
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
def base_path(tmp_path: Path) -> Iterator[Path]:
    publish(tmp_path, "ads", 1)
    write_config(tmp_path)
    yield tmp_path


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
        seen = threading.Event()
        seen.wait(2.5)  # two further looks of the server: the record has to stay as it is
        gone = client.model_status("ads")[1]
        assert (gone.error_code, gone.error_message) == (0, "")


def test_sigterm_lets_the_requests_in_flight_end(base_path: Path) -> None:
    with embedded_server(base_path, *QUICK) as server:
        client = ServingPredictor([server.target])
        answered, failed, first = [], [], threading.Event()
        many = np.ones((20_000, LATENT_DIM), np.float32) * np.arange(LATENT_DIM, dtype=np.float32)

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
