"""An embedded stack in a temporary folder, driven by the real command line."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workers.bootstrap import Runtime
from workers.settings import Settings

if TYPE_CHECKING:
    from workers.producer import Producer


class Stack:
    """Runs `aigc` against the stack in a folder."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / ".aigc"
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("AIGC_")}
        self.environment["AIGC_HOME"] = str(self.home)

    def run(self, *arguments: str) -> str:
        """What one command prints; it must succeed."""
        command = [sys.executable, "-m", "workers.cli", *arguments]
        return subprocess.run(command, env=self.environment, check=True, capture_output=True, text=True).stdout

    def pid(self, name: str) -> int:
        """Of a process of the stack."""
        return int(json.loads((self.home / "run" / f"{name}.json").read_text())["pid"])

    def runtime(self) -> Runtime:
        """Clients of the stack's servers."""
        lines = (line.split("=", 1) for line in (self.home / "stack.env").read_text().splitlines())
        values: dict[str, Any] = {name.removeprefix("AIGC_").lower(): value for name, value in lines}
        return Runtime(Settings.model_validate(values))

    def producer(self) -> "Producer":
        """The Python door to the stack; one stack in a process, for Celery reads the environment when it is imported."""
        os.environ["AIGC_HOME"] = str(self.home)
        from workers.producer import Producer

        return Producer(self.runtime())


@contextmanager
def running(folder: Path | None = None) -> Iterator[Stack]:
    """A started stack whose data are below `folder` (else the temporary one); it and they are gone at the end."""
    with tempfile.TemporaryDirectory(dir=folder) as made:
        stack = Stack(Path(made))
        stack.run("up")
        try:
            yield stack
        finally:
            stack.run("down")
