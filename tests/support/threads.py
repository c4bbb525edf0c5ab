"""Stores whose threads the virtual clock waits for: thin counting shells around the real ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from gateway.store.database import Store
from tests.support.clock import VirtualLoop, counted

Hook = Callable[[str, str], Awaitable[None]]


class CountedStore:
    """The real database store; time stands still while its threads work.

    `hook` is told `before` and `after` every write, by the name of its function. `killed` writes are never made.
    """

    def __init__(self, inner: Store, loop: VirtualLoop) -> None:
        self.inner = inner
        self.killed = False
        self.hook: Hook | None = None
        self._loop = loop

    @staticmethod
    def _of_a_job() -> bool:
        task = asyncio.current_task()
        return task is not None and task.get_name().startswith("job_")

    async def write(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if self.killed:
            if self._of_a_job():
                raise asyncio.CancelledError  # a dead process does not go on as if it had written, and submit
            return None
        name = getattr(fn, "__name__", "write")
        if self.hook is not None:
            await self.hook("before", name)
        with counted(self._loop):
            result = await self.inner.write(fn, *args, **kwargs)
        if self.hook is not None:
            await self.hook("after", name)
        return result

    async def read(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        with counted(self._loop):
            return await self.inner.read(fn, *args, **kwargs)

    async def ping(self) -> None:
        with counted(self._loop):
            await self.inner.ping()

    async def close(self) -> None:
        with counted(self._loop):
            await self.inner.close()


class CountedObjects:
    """The real artifact store, as far as `Artifacts` uses it; time stands still while its threads work."""

    def __init__(self, inner: Any, loop: VirtualLoop) -> None:
        self._inner = inner
        self._loop = loop

    async def put_async(self, *args: Any, attributes: Any = None) -> Any:
        with counted(self._loop):
            return await self._inner.put_async(*args)

    async def get_async(self, *args: Any, **kwargs: Any) -> Any:
        with counted(self._loop):
            return _CountedResult(await self._inner.get_async(*args, **kwargs), self._loop)

    async def head_async(self, *args: Any) -> Any:
        with counted(self._loop):
            return await self._inner.head_async(*args)


class _CountedResult:
    def __init__(self, inner: Any, loop: VirtualLoop) -> None:
        self._inner = inner
        self._loop = loop

    async def bytes_async(self) -> Any:
        with counted(self._loop):
            return await self._inner.bytes_async()

    async def stream(self, **options: Any) -> AsyncIterator[Any]:
        chunks = self._inner.stream(**options).__aiter__()
        while True:
            with counted(self._loop):
                try:
                    chunk = await chunks.__anext__()
                except StopAsyncIteration:
                    return
            yield chunk
