"""The rows of the fault matrix that every test run shows, a few times each; `make faults` has all of them."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.matrix import Row
from faults.plant import Plant, memory
from faults.rows import ROWS
from faults.verify import leftovers

pytestmark = pytest.mark.slow

#: The matrix's recovery times hold on a machine of its own; here others may be at work.
SLACK = 3.0


@pytest.fixture(scope="module")
def plant() -> Iterator[Plant]:
    made = Plant(Path(tempfile.mkdtemp(prefix="plant-", dir=memory())))  # removed by `close`
    try:
        yield made.start()
    finally:
        made.close()


@pytest.mark.parametrize("row", [row for row in ROWS if row.n_test], ids=lambda row: f"row-{row.number}")
def test_a_fault_loses_nothing_and_doubles_nothing(plant: Plant, row: Row) -> None:
    plant.calm()
    seen = row.run(plant, row.n_test)
    assert not seen.problems
    assert seen.ok, seen.figure
    if row.recovery_seconds_max is not None:
        assert max(seen.recoveries) <= SLACK * row.recovery_seconds_max
    assert not [text for text in leftovers(plant) if "leases" in text]
