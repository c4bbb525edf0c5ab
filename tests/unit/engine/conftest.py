"""The gateway in virtual time, for the engine's tests."""

from tests.support.fixtures import anyio_backend, start, template

__all__ = ["anyio_backend", "start", "template"]
