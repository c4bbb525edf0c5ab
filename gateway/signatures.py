"""Standard Webhooks 1.0.0: secrets, and the signature over id, time and body. Pure but for drawing a secret.

A receiver checks it with any of the libraries on standardwebhooks.com. The published vectors are in the tests.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Sequence

PREFIX = "whsec_"
SECRET_BYTES = 32
SECRET_BYTES_MIN = 24
SECRET_BYTES_MAX = 64


class SecretError(ValueError):
    """Not a secret of Standard Webhooks: the sentence says why, without the secret."""


def new_secret() -> str:
    """A fresh secret, `whsec_` and base64."""
    return PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode("ascii")


def secret_bytes(secret: str) -> bytes:
    """The key inside a secret. Raises SecretError for another form, and for one that is empty, short or long."""
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise SecretError("a webhook secret is whsec_ and base64: openssl rand -base64 32") from None
    if not SECRET_BYTES_MIN <= len(key) <= SECRET_BYTES_MAX:
        raise SecretError(f"a webhook secret has {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} bytes, not {len(key)}")
    return key


def signature(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """The signature `v1,…` of a message sent at a time (unix seconds)."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    digest = hmac.new(secret_bytes(secret), signed, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode("ascii")


def headers(message_id: str, at: float, body: bytes, used_secrets: Sequence[str]) -> dict[str, str]:
    """The three headers of one try; with two secrets two signatures, so that a receiver may change over in peace."""
    timestamp = int(at)
    signed = " ".join(signature(secret, message_id, timestamp, body) for secret in used_secrets)
    return {"webhook-id": message_id, "webhook-timestamp": str(timestamp), "webhook-signature": signed}
