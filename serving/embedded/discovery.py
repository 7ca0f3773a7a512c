"""Which versions a model has on disk, and which of them are wanted: TensorFlow Serving's rules."""

import re
from collections.abc import Iterable
from pathlib import Path

from serving.protos import model_server_pb2 as pb

#: What absl::SimpleAtoi takes for a whole number: spaces around and a sign are allowed, nothing else.
_NUMBER = re.compile(r"\s*[+-]?[0-9]{1,19}\s*")


def versions_on_disk(base_path: Path) -> dict[int, Path]:
    """Version → folder. Names that are not numbers are ignored; of two names with one number the last in order wins.

    Raises FileNotFoundError for a base path that does not exist.
    """
    names = sorted(path.name for path in base_path.iterdir())
    numbered = [(int(name), name) for name in names if _NUMBER.fullmatch(name)]
    return {number: base_path / name for number, name in numbered if abs(number) < 2**63}


def wanted(policy: pb.ServableVersionPolicy, versions: Iterable[int]) -> list[int]:
    """The versions that the policy aspires to, highest first; without a policy the latest one."""
    ordered = sorted(versions, reverse=True)
    choice = policy.WhichOneof("policy_choice")
    if choice == "all":
        return ordered
    if choice == "specific":
        return [version for version in ordered if version in set(policy.specific.versions)]
    return ordered[: max(1, policy.latest.num_versions)]
