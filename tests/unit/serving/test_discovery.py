"""Which folders are versions, and which versions a policy wants."""

from pathlib import Path

import pytest

from serving.embedded.discovery import versions_on_disk, wanted
from serving.protos import model_server_pb2 as pb


@pytest.mark.parametrize(
    ("name", "version"), [("1", 1), ("00123", 123), ("+5", 5), ("-5", -5), (" 5 ", 5), ("20170111173521", 20170111173521)]
)
def test_a_name_that_is_a_whole_number_is_a_version(tmp_path: Path, name: str, version: int) -> None:
    (tmp_path / name).mkdir()

    assert versions_on_disk(tmp_path) == {version: tmp_path / name}


@pytest.mark.parametrize("name", ["2.denied", "tmp-3", "3_", ".tmp-4", "1e3", "five", "- 5"])
def test_any_other_name_is_ignored(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()

    assert versions_on_disk(tmp_path) == {}


@pytest.mark.parametrize("name", ["٣", "99999999999999999999"])
def test_a_number_that_upstream_cannot_read_is_ignored(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()

    assert versions_on_disk(tmp_path) == {}


def test_of_two_names_with_one_number_the_last_in_order_wins(tmp_path: Path) -> None:
    (tmp_path / "007").mkdir()
    (tmp_path / "7").mkdir()

    assert versions_on_disk(tmp_path) == {7: tmp_path / "7"}


def test_a_missing_base_path_is_an_error_of_the_file_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        versions_on_disk(tmp_path / "nowhere")


Policy = pb.ServableVersionPolicy


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (Policy(), [7]),
        (Policy(latest=Policy.Latest()), [7]),
        (Policy(latest=Policy.Latest(num_versions=2)), [7, 3]),
        (Policy(latest=Policy.Latest(num_versions=9)), [7, 3, 1]),
        (Policy(all=Policy.All()), [7, 3, 1]),
        (Policy(specific=Policy.Specific(versions=[1, 5, 3])), [3, 1]),
        (Policy(specific=Policy.Specific()), []),
    ],
    ids=["none", "latest", "latest two", "latest nine", "all", "specific", "specific of nothing"],
)
def test_a_policy_wants_these_of_versions_one_three_and_seven(policy: Policy, expected: list[int]) -> None:
    assert wanted(policy, [3, 7, 1]) == expected
