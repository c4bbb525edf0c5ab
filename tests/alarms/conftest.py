"""The gateway in virtual time, for the alarms whose cause takes minutes or hours."""

from tests.support.fixtures import anyio_backend, start, template

__all__ = ["anyio_backend", "start", "template"]
