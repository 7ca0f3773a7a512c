"""Run the fault matrix and print it; ends with 1 when a row failed.

PYTHONPATH=tests python -m faults [--rows 1,3] [--full]
"""

import argparse
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from faults.kill_loop import percentile
from faults.matrix import Row, Seen
from faults.plant import Plant, memory
from faults.rows import NOT_RUN, ROWS

SIMULATION = Path(__file__).parents[1] / "simulation"


def main() -> int:
    """All rows on one plant, each verified, then the simulator."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", default="", help="numbers, comma separated; without it all")
    parser.add_argument("--full", action="store_true", help="as often as the matrix asks for, which takes hours")
    options = parser.parse_args()
    wanted = {int(number) for number in options.rows.split(",") if number}
    plant = Plant(Path(tempfile.mkdtemp(prefix="faults-", dir=memory()))).start()
    print(f"{'row':>3}  {'fault':<58} {'n':>5}  {'p95':>7}  verdict  seen", flush=True)
    try:
        verdicts = [shown(row, plant, full=options.full) for row in ROWS if not wanted or row.number in wanted]
    finally:
        plant.close()
    for row in () if wanted else NOT_RUN:
        print(f"{row.number:>3}  {row.fault:<58} {'-':>5}  {'-':>7}  not run  {row.reason}")
    if SIMULATION.exists() and not wanted:
        verdicts.append(simulated())
    return 0 if all(verdicts) else 1


def shown(row: Row, plant: Plant, *, full: bool) -> bool:
    """Run one row and print its line."""
    started = time.monotonic()
    try:
        plant.calm()
        seen = row.run(plant, row.n_full if full else row.n)
    except Exception as error:
        seen = Seen(n=0, figure=f"{type(error).__name__}: {error}", ok=False)
    p95 = percentile(seen.recoveries, 0.95)
    recovered = row.recovery_seconds_max is None or (p95 is not None and p95 <= row.recovery_seconds_max)
    good = seen.ok and recovered and not seen.problems
    verdict = "ok" if good else "FAILED"
    recovery = "-" if p95 is None else f"{p95:.2f} s"
    seconds = math.ceil(time.monotonic() - started)
    print(f"{row.number:>3}  {row.fault:<58} {seen.n:>5}  {recovery:>7}  {verdict:<7}  {seen.figure}", end="")
    print(f" [{row.required}; {seconds} s]", flush=True)
    for problem in seen.problems[:5]:
        print(f"     {problem}", flush=True)
    return good


def simulated() -> bool:
    """The simulator with 10,000 seeds."""
    command = [sys.executable, "-m", "pytest", "-q", str(SIMULATION)]
    return subprocess.run(command, env=os.environ | {"AIGC_SIMULATION_SEEDS": "10000"}).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
