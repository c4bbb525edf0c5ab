"""The gateway in virtual time, for the engine's tests."""

from tests.support.fixtures import anyio_backend, start, start_on_both, template

__all__ = ["anyio_backend", "start", "start_on_both", "template"]
