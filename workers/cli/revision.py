"""Which state of the code runs, for the cards of the models that it makes."""

import subprocess
from pathlib import Path

#: git answers in milliseconds; a hung file system must not hold the start.
GIT_SECONDS_MAX = 5.0

UNKNOWN = "unknown"


def code_revision(root: Path = Path(__file__).parents[2]) -> str:
    """The commit of the checkout that the code at `root` belongs to, `-dirty` when files differ from it; else `unknown`.

    Code that is installed may lie within a checkout of something else, whose commit says nothing about it.
    """
    if _git(root, "ls-files", "--error-unmatch", "workers/cli/revision.py") is None:
        return UNKNOWN
    return _git(root, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*") or UNKNOWN


def _git(folder: Path, *arguments: str) -> str | None:
    """What git says; None when it refuses, or is not there."""
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=GIT_SECONDS_MAX)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
