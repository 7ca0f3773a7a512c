"""How fast a manifest of a million lines is checked and ordered, and what memory the command takes for it.

    python -m benchmarks.manifest [lines]

Through the real command line on an embedded stack: refused for 3 wrong lines (the first, the middle and the last), then
without them accepted, each as JSONL. Memory is the peak resident size of the command's process (VmHWM).
"""

import json
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.dcgan64 import publish_dcgan64
from benchmarks.report import report
from benchmarks.stack import Stack, running

LINES = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """How one command went."""

    code: int
    output: str
    seconds: float
    peak_mb: float


def main() -> None:
    """Measure and print."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else LINES
    with running() as stack:
        made = stack.runtime()
        publish_dcgan64(made.settings.model_base_path, store=made.store)
        bad, good = stack.home / "bad.jsonl", stack.home / "good.jsonl"
        wrong = {1, count // 2, count}
        write(bad, count, wrong=wrong)
        write(good, count, wrong=set())
        refused = run(stack, bad)
        # Far in the future: what is measured is the order, not the pictures.
        accepted = run(stack, good, "--start-in", "30d")
    found = [problem["line"] for problem in json.loads(refused.output)["problems"]]
    if refused.code != 2 or found != sorted(wrong) or accepted.code != 0:
        raise SystemExit(f"refused {refused}, accepted {accepted}")
    report(
        "manifest",
        {
            "lines": count,
            "refused_seconds": round(refused.seconds, 2),
            "refused_peak_mb": round(refused.peak_mb, 1),
            "accepted_seconds": round(accepted.seconds, 2),
            "accepted_peak_mb": round(accepted.peak_mb, 1),
        },
    )


def write(path: Path, count: int, *, wrong: set[int]) -> None:
    """A manifest with an id in every line."""
    with path.open("w") as file:
        for number in range(1, count + 1):
            seed = -number if number in wrong else number
            file.write(f'{{"seed":{seed},"id":"advertisement-{number:09d}"}}\n')


#: The command line, telling at its end what the kernel says of the process. The usage that a parent is told would do as
#: well, if it did not begin with the parent's own size.
COMMAND = """
import pathlib, sys
from workers.cli import main
try:
    main()
finally:
    print(pathlib.Path("/proc/self/status").read_text(), file=sys.stderr)
"""


def run(stack: Stack, path: Path, *options: str) -> Ran:
    """`aigc generate --manifest`."""
    command = [sys.executable, "-c", COMMAND, "generate", "--model", "dcgan64", "--manifest", str(path), "--json", *options]
    started = time.perf_counter()
    done = subprocess.run(command, env=stack.environment, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", done.stderr)
    return Ran(code=done.returncode, output=done.stdout, seconds=seconds, peak_mb=int(peak) / 1024)


if __name__ == "__main__":
    main()
