"""A model server for the contract tests: the embedded one as a process, or the one that AIGC_TEST_SERVING_TARGET names."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
import serving_models

from serving.repository import write_config

START_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningServer:
    """A model server process over a repository of the test's own."""

    target: str
    base_path: Path
    process: subprocess.Popen[bytes]


@contextmanager
def embedded_server(base_path: Path, *flags: str) -> Iterator[RunningServer]:
    """The embedded server over `base_path`, its port open; killed at the end if the test has not stopped it."""
    if not (base_path / "models.config").exists():
        write_config(base_path)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "serving.embedded", f"--port={port}", "--bind_address=127.0.0.1"]
    command += [f"--model_config_file={base_path / 'models.config'}", "--enable_serialization_as_tensor_content=true"]
    with (base_path / "server.log").open("wb") as log:
        process = subprocess.Popen([*command, *flags], stdout=log, stderr=subprocess.STDOUT)
    target = f"127.0.0.1:{port}"
    try:
        with grpc.insecure_channel(target, [("grpc.max_reconnect_backoff_ms", 200)]) as channel:
            try:
                grpc.channel_ready_future(channel).result(timeout=START_SECONDS)
            except grpc.FutureTimeoutError:
                pytest.fail(f"no open port after {START_SECONDS} s:\n{(base_path / 'server.log').read_text()}")
        yield RunningServer(target=target, base_path=base_path, process=process)
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="session", params=["onnx", "saved_model"])
def target(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """host:port of a server with version 1 of `pictures`, once over each engine."""
    if named := os.environ.get("AIGC_TEST_SERVING_TARGET"):
        if request.param == "onnx":
            pytest.skip("a server that was named runs SavedModels")
        yield named
        return
    base_path = tmp_path_factory.mktemp(request.param)
    if request.param == "onnx":
        serving_models.write_onnx(base_path / serving_models.NAME / "1")
    else:
        # In a process of its own: TensorFlow would stay in this one.
        subprocess.run([sys.executable, serving_models.__file__, base_path], check=True, capture_output=True)
    write_config(base_path)
    with embedded_server(base_path) as server:
        yield server.target
