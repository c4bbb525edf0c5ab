"""A gateway's store of files that can be away: every call then ends as those of the bucket's library do."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.gateway import Gateway


class Bucket:
    """The gateway's own store; while there is `trouble`, every call raises it."""

    def __init__(self, gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
        self.trouble: Exception | None = None
        inner = gateway.service.parts.inputs.artifacts.store
        for name in ("put_async", "get_async", "head_async"):
            monkeypatch.setattr(inner, name, self._around(getattr(inner, name)))

    def _around(self, call: Any) -> Any:
        async def called(*args: Any, **kwargs: Any) -> Any:
            if self.trouble is not None:
                raise self.trouble
            return await call(*args, **kwargs)

        return called
