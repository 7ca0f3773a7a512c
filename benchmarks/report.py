"""What every benchmark prints on its last line."""

import json
import os
import statistics


def report(name: str, figures: dict[str, float | str]) -> None:
    """One JSON object: the figures by name with unit, and the machine's cores."""
    print(json.dumps({"benchmark": name, "cores": os.cpu_count(), **figures}))


def median(values: list[float]) -> float:
    """Rounded to what a noisy machine can tell."""
    return round(statistics.median(values), 3)
