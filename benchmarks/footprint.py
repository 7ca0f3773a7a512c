"""What a generation worker weighs and how soon it and the command line are ready.

    python -m benchmarks.footprint

Memory is PSS (each shared page counted by its share) of the worker and all its children after it has done a chunk.
"""

import time
from pathlib import Path

import psutil

from benchmarks.dcgan64 import publish_dcgan64
from benchmarks.report import median, report
from benchmarks.stack import Stack, running

REPEATS = 5


def main() -> None:
    """Measure and print."""
    with running() as stack:
        made = stack.runtime()
        publish_dcgan64(made.settings.model_base_path, store=made.store)
        stack.run("generate", "--model", "dcgan64", "--count", "2000", "--wait")
        worker = psutil.Process(stack.pid("generation-1"))
        processes = [worker, *worker.children(recursive=True)]
        pss_bytes = sum(process.memory_full_info().pss for process in processes)
        loaded = any("tensorflow" in Path(f"/proc/{process.pid}/maps").read_text() for process in processes)
        submits = [_seconds(stack, "generate", "--model", "dcgan64", "--count", "64") for _ in range(REPEATS)]
        starts = [_worker_start_seconds(stack) for _ in range(REPEATS)]
    report(
        "footprint",
        {
            "generation_worker_pss_mb": round(pss_bytes / 1e6, 1),
            "generation_worker_processes": len(processes),
            "generation_worker_tensorflow_loaded": str(loaded).lower(),
            "generation_worker_ready_seconds": median(starts),
            "submit_command_seconds": median(submits),
        },
    )


def _seconds(stack: Stack, *arguments: str) -> float:
    started = time.perf_counter()
    stack.run(*arguments)
    return time.perf_counter() - started


def _worker_start_seconds(stack: Stack) -> float:
    """From the process's start to its announcement that it takes work."""
    psutil.Process(stack.pid("generation-1")).kill()
    stack.run("up")
    pid = stack.pid("generation-1")
    announced = (stack.home / "run" / f"metrics-{pid}.json").stat().st_mtime
    return announced - psutil.Process(pid).create_time()


if __name__ == "__main__":
    main()
