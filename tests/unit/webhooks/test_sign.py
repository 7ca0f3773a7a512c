"""Signatures against the published example of the specification, and what is no secret."""

import pytest

from aigc_core.errors import InvalidSpec
from aigc_core.webhooks.sign import headers_of, key_of

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def test_the_published_example_has_its_published_signature() -> None:
    headers = headers_of(SECRET, "msg_p5jXN8AQM9LWM0D4loKWxJek", timestamp=1614265330, body=b'{"test": 2432232314}')
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert (headers["webhook-id"], headers["webhook-timestamp"]) == ("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330")


@pytest.mark.parametrize("secret", ["", "secret", SECRET.removeprefix("whsec_"), "whsec_c2hvcnQ=", "whsec_no base64!"])
def test_what_is_no_secret_is_refused_and_not_told(secret: str) -> None:
    with pytest.raises(InvalidSpec, match="openssl") as caught:
        key_of(secret)
    assert not secret or secret not in str(caught.value).replace("whsec_ and", "").replace("webhook secret", "")
