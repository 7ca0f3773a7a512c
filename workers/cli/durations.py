"""Times as people write them: 90s, 30m, 2h, 3d from now."""

import re

import click

SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


class Duration(click.ParamType[float]):
    """A length of time; its value is in seconds."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", str(value))
        if found is None:
            self.fail(f"{value!r}: expected a number with s, m, h or d behind it, as 30m or 2h", param, ctx)
        return float(found[1]) * SECONDS[found[2]]
