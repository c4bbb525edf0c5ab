"""What an error of PostgreSQL or of the way to it means for the transaction, by SQLSTATE and type, as a table."""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy.exc import DBAPIError


class Fault(StrEnum):
    """Whose fault it is, and so what is to be done."""

    CALLERS = "callers"  # a constraint, a wrong statement: goes to the caller as it is
    CONFLICT = "conflict"  # rolled back for the sake of another transaction: run it again
    LOST = "lost"  # the server is away, or is coming or going: try again for a while
    STANDBY = "standby"  # the server takes no writes now: as if it were away; a read that writes is the caller's fault
    SLOW = "slow"  # it waited long enough already: trying again would only add to the load


# https://www.postgresql.org/docs/current/errcodes-appendix.html; the longest prefix wins.
BY_SQLSTATE = {
    "40001": Fault.CONFLICT,  # serialization_failure
    "40P01": Fault.CONFLICT,  # deadlock_detected
    "08": Fault.LOST,  # connection exceptions
    "25006": Fault.STANDBY,  # read_only_sql_transaction: just before or after another server takes over
    "25P03": Fault.LOST,  # idle_in_transaction_session_timeout
    "25P04": Fault.LOST,  # transaction_timeout
    "57P": Fault.LOST,  # shutdown, crash, starting up, database dropped
    "53": Fault.LOST,  # too many connections, no disk, no memory
    "55P03": Fault.SLOW,  # lock_not_available: store.lock_timeout_s
    "57014": Fault.SLOW,  # query_canceled: store.statement_timeout_s
}


def fault_of(error: BaseException) -> Fault:
    """What an error means."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    sqlstate: str = getattr(cause, "sqlstate", None) or ""
    for length in (5, 3, 2):
        if sqlstate[:length] in BY_SQLSTATE:
            return BY_SQLSTATE[sqlstate[:length]]
    if isinstance(error, DBAPIError):
        return Fault.LOST if error.connection_invalidated else Fault.CALLERS
    return Fault.CALLERS if sqlstate else Fault.LOST
