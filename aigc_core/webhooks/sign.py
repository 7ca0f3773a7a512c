"""Signatures of the Standard Webhooks specification: HMAC-SHA256 over id, time and body; pure functions."""

import base64
import binascii
import hashlib
import hmac

from aigc_core.errors import InvalidSpec

SECRET_PREFIX = "whsec_"

#: Bytes that a secret may have, by the specification.
SECRET_BYTES_MIN, SECRET_BYTES_MAX = 24, 64


def key_of(secret: str) -> bytes:
    """The key in `whsec_` + base64; `InvalidSpec` (which does not tell the secret) for anything else."""
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except binascii.Error:
        key = b""
    if not secret.startswith(SECRET_PREFIX) or not SECRET_BYTES_MIN <= len(key) <= SECRET_BYTES_MAX:
        raise InvalidSpec(
            f"webhook secret: expected whsec_ and the base64 of {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} bytes; "
            'make one with `echo "whsec_$(openssl rand -base64 32)"`'
        )
    return key


def signature_of(secret: str, webhook_id: str, *, timestamp: int, body: bytes) -> str:
    """`v1,` + base64 of the HMAC; `timestamp`: seconds since 1970 UTC."""
    signed = f"{webhook_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key_of(secret), signed, hashlib.sha256).digest()).decode()


def headers_of(secret: str, webhook_id: str, *, timestamp: int, body: bytes) -> dict[str, str]:
    """The headers that the receiver checks, and what it may want to know beside them."""
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signature_of(secret, webhook_id, timestamp=timestamp, body=body),
        "content-type": "application/json",
        "user-agent": "aigc-webhooks",
    }
