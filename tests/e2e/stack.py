"""The embedded stack for a test: a folder of its own, the real command line, everything stopped at the end."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Stack:
    """Runs `aigc` in a folder."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("AIGC_")}
        self.environment |= {"AIGC_HOME": str(folder / ".aigc"), **settings}

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """One command; its output goes into the failure when it ends badly."""
        command = [sys.executable, "-m", "workers.cli", *arguments]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, cwd=self.folder)
        assert not check or done.returncode == 0, f"aigc {' '.join(arguments)}: {done.stdout}{done.stderr}{self.logs()}"
        return done

    def json(self, *arguments: str) -> Any:
        """A command's answer with --json."""
        return json.loads(self.run(*arguments, "--json").stdout)

    def settings(self) -> dict[str, str]:
        """What `up` wrote down."""
        lines = (self.folder / ".aigc" / "stack.env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines)

    def pid(self, name: str) -> int:
        """Of a process of the stack."""
        return int(json.loads((self.folder / ".aigc" / "run" / f"{name}.json").read_text())["pid"])

    def logs(self) -> str:
        """The end of every log."""
        paths = sorted((self.folder / ".aigc" / "logs").glob("*.log"))
        return "".join(f"\n== {path.name}\n{path.read_text()[-1500:]}" for path in paths)

    def in_process(self, code: str) -> str:
        """Python code run beside the stack, with its settings."""
        root = str(Path(__file__).parents[2])
        environment = {**self.environment, **self.settings(), "PYTHONPATH": root}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout


@contextmanager
def running(folder: Path, *, generation_workers: int = 1, **settings: str) -> Iterator[Stack]:
    """A started stack."""
    stack = Stack(folder, **settings)
    stack.run("up", "--generation-workers", str(generation_workers))
    try:
        yield stack
    finally:
        stack.run("down")


PUBLISH = """
from benchmarks.dcgan64 import publish_dcgan64
from workers.bootstrap import Runtime
made = Runtime.from_env()
publish_dcgan64(made.settings.model_base_path, store=made.store)
"""
