"""A model server for the contract tests: the embedded one as a process, or the one that AIGC_TEST_SERVING_TARGET names."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
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


@pytest.fixture(scope="session")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """host:port of a server with version 1 of `pictures` over the engine `onnx` or `saved_model`; started once."""
    with ExitStack() as running:

        @cache
        def start(engine: str) -> str:
            if named := os.environ.get("AIGC_TEST_SERVING_TARGET"):
                if engine == "onnx":
                    pytest.skip("a server that was named runs SavedModels")
                return named
            base_path = tmp_path_factory.mktemp(engine)
            if engine == "onnx":
                serving_models.write_onnx(base_path / serving_models.NAME / "1")
                write_config(base_path)
            else:
                # In a process of its own: TensorFlow would stay in this one.
                subprocess.run([sys.executable, serving_models.__file__, base_path], check=True, capture_output=True)
            return running.enter_context(embedded_server(base_path)).target

        yield start


@pytest.fixture(params=["onnx", "saved_model"])
def target(request: pytest.FixtureRequest, serve: Callable[[str], str]) -> str:
    """The server of `serve`, over each engine in turn."""
    return serve(request.param)
