"""Signed links: addresses that carry their own permission and end by time."""

from __future__ import annotations

import hashlib
import hmac
import json


class Links:
    """Signs and checks what vidgate hands out without a key: input pictures, results, callback addresses."""

    def __init__(self, secret: str, base_url: str) -> None:
        self._secret = secret.encode()
        self.base_url = base_url.rstrip("/")

    def input_url(self, name: str, expires_at: float) -> str:
        """Where a vendor can fetch an input picture, `<sha256>.<extension>`, until `expires_at` (unix seconds)."""
        expires = int(expires_at)
        return f"{self.base_url}/inputs/{name}?expires={expires}&signature={self.sign('input', name, expires)}"

    def result_url(self, job_id: str, number: int, expires_at: int) -> str:
        """Where anybody can fetch a finished file until `expires_at`; without a public address only the path of it."""
        signature = self.sign("result", job_id, number, expires_at)
        return f"{self.base_url}/results/{job_id}/{number}?expires={expires_at}&signature={signature}"

    def callback_url(self, attempt_id: str) -> str:
        """The unguessable address at which a vendor may say that an attempt is done."""
        return f"{self.base_url}/callbacks/{attempt_id}/{self.sign('callback', attempt_id)}"

    def sign(self, *parts: object) -> str:
        """The signature over these parts (HMAC-SHA256, the first 32 hex digits)."""
        message = json.dumps([str(part) for part in parts]).encode()  # no two lists of parts read the same
        return hmac.new(self._secret, message, hashlib.sha256).hexdigest()[:32]

    def verify(self, signature: str, *parts: object) -> bool:
        """Whether a signature is right, in constant time."""
        return hmac.compare_digest(signature.encode(), self.sign(*parts).encode())
