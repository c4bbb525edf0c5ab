"""One process of the test of overspending: many threads that admit against the same file at the same moment."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from gateway.money import idempotency, ledger
from tests.stateful.money_support import file_engine

PRICE = 7


def main(path: str, name: str, threads: int) -> None:
    """Say `ready`, wait for a line, let every thread ask for one hold, and print how many were admitted."""
    engine = file_engine(Path(path))
    admitted: list[bool] = []
    gate = threading.Barrier(threads + 1)

    def ask(number: int) -> None:
        hold_id = f"{name}-{number}"
        request = ledger.HoldRequest(hold_id, f"job-{hold_id}", "alpha", "a1", PRICE, 1000.0, 2000.0)
        gate.wait()
        with engine.begin() as connection:
            assert idempotency.claim(connection, "alpha", hold_id, "f", 1000.0) == idempotency.Fresh()
            admitted.append(isinstance(ledger.hold(connection, request), ledger.Held))

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
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
