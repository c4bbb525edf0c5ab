"""One process of the test of overspending: many that admit against the same database at the same moment.

Threads on a SQLite file, tasks on PostgreSQL.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from pathlib import Path

from sqlalchemy import Connection

from gateway.money import idempotency, ledger
from gateway.settings import StoreSection
from gateway.store.database import open_store
from tests.stateful.money_support import file_engine

PRICE = 7


def ask_for_one(connection: Connection, hold_id: str) -> bool:
    """One admission: a key is claimed and a hold asked for; whether it was given."""
    request = ledger.HoldRequest(hold_id, f"job-{hold_id}", "alpha", "a1", PRICE, 1000.0, 2000.0)
    answer = idempotency.Replay(202, b"{}", {})
    assert idempotency.claim(connection, "alpha", hold_id, "f", 1000.0, answer) == idempotency.Fresh()
    return isinstance(ledger.hold(connection, request), ledger.Held)


async def on_postgresql(url: str, name: str, tasks: int) -> None:
    """Say `ready`, wait for a line, let every task ask for one hold, and print how many were admitted."""
    store = await open_store(StoreSection(url=url, connections_max=tasks))
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    admitted = await asyncio.gather(*(store.write(ask_for_one, f"{name}-{number}") for number in range(tasks)))
    print(sum(admitted), len(admitted), flush=True)
    await store.close()


def main(path: str, name: str, threads: int) -> None:
    """Say `ready`, wait for a line, let every thread ask for one hold, and print how many were admitted."""
    engine = file_engine(Path(path))
    admitted: list[bool] = []
    gate = threading.Barrier(threads + 1)

    def ask(number: int) -> None:
        gate.wait()
        with engine.begin() as connection:
            admitted.append(ask_for_one(connection, f"{name}-{number}"))

    workers = [threading.Thread(target=ask, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    print("ready", flush=True)
    sys.stdin.readline()
    gate.wait()
    for worker in workers:
        worker.join()
    print(sum(admitted), len(admitted), flush=True)
    engine.dispose()


if __name__ == "__main__":
    if sys.argv[1].startswith("postgresql:"):
        asyncio.run(on_postgresql(sys.argv[1], sys.argv[2], int(sys.argv[3])))
    else:
        main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
