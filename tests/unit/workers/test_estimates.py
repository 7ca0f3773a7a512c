"""How an estimate is told: in words that say what is not known."""

import json

import pytest

from aigc_core.jobs.estimate import Estimate
from workers.cli.estimates import print_estimate

KNOWN = Estimate(
    image_count=200_000, chunk_count=391, payload_bytes=2_486_400_000, seconds=1_473.4, cost=0.0491,
    measured_jobs=1, measured_images=2_000,
)  # fmt: skip
UNKNOWN = Estimate(
    image_count=5, chunk_count=1, payload_bytes=None, seconds=None, cost=None, measured_jobs=0, measured_images=0
)


def told(capsys: pytest.CaptureFixture[str], found: Estimate, *, priced: bool, as_json: bool = False) -> str:
    print_estimate(found, priced=priced, manifest=None, as_json=as_json)
    return capsys.readouterr().out


def test_what_is_known_is_told_with_what_it_was_measured_on(capsys: pytest.CaptureFixture[str]) -> None:
    lines = told(capsys, KNOWN, priced=True).splitlines()
    assert lines == [
        "pictures   200,000",
        "chunks     391",
        "bytes      about 2,486,400,000",
        "duration   about 24 min 33 s",
        "cost       about 0.049",
        "measured   on 2,000 pictures of an earlier order of the model",
        "nothing was ordered",
    ]


def test_what_is_not_known_is_called_so(capsys: pytest.CaptureFixture[str]) -> None:
    text = told(capsys, UNKNOWN, priced=True)
    assert text.count("not measured yet") == 3
    assert "set AIGC_COST_PER_IMAGE" in told(capsys, UNKNOWN, priced=False)
    assert json.loads(told(capsys, UNKNOWN, priced=False, as_json=True))["seconds"] is None
