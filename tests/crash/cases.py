"""The cases of the matrix: which job comes by which step, and what must have become of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from tests.support.instant import LOSS, PRICE


@dataclass(frozen=True, slots=True)
class Case:
    """A job of a kind and an action that it comes by, for the `occurrence`th time.

    `opening` are steps at which the gateway is killed before. `moment` is when the step is come by: while the job runs,
    when the next gateway starts, or when it drains. `meets_again` says whether the gateway that takes over comes by the
    step once more: `before` and `after` it; where it does not there is no second kill. `beside` it there is a job that
    nobody drives, and which is over.
    """

    kind: str
    action: str
    occurrence: int = 1
    opening: tuple[str, ...] = ()
    moment: Literal["run", "start", "drain"] = "run"
    meets_again: tuple[bool, bool] = (True, False)
    beside: Literal["", "overdue", "parked"] = ""
    databases: tuple[str, ...] = ("sqlite", "postgres")

    @property
    def name(self) -> str:
        times = f"#{self.occurrence}" if self.occurrence > 1 else ""
        return f"{self.kind} {self.action}{times} {self.moment}"


@dataclass(frozen=True, slots=True)
class End:
    """What an uncrashed run reaches. `entries` counts the ledger's lines about the job, `renders` the vendor's runs."""

    status: str
    bill: str
    price_micros: int | None
    attempts: tuple[str, ...]
    entries: Mapping[str, int]
    renders: int = 1

    @property
    def event(self) -> str:
        return "job.parked" if self.status == "running" else f"job.{self.status}"


DONE = End("succeeded", "captured", PRICE, ("succeeded",), {"capture": 1})
THRICE = ("failed", "failed", "succeeded")
TWO_LOST = {"capture": 1, "suspend": 2, "clear": 1}
ENDS: Mapping[str, End] = {
    "plain": DONE,
    "slow": DONE,
    "busy": DONE,
    "lost": DONE,
    "never": DONE,
    "linked": DONE,
    "breaks": DONE,
    "dark": End("succeeded", "captured", PRICE, ("succeeded",), {"capture": 1, "suspend": 1}),
    "late": End("succeeded", "captured", PRICE, THRICE, TWO_LOST),
    "absent": End("succeeded", "captured", PRICE, THRICE, TWO_LOST),
    "fails": End("failed", "released", 0, ("failed",) * 4, {"loss": 4}, renders=4),
    "stops": End("canceled", "released", 0, ("failed",), {}),
    "parked": End("running", "held", None, ("accepted",), {}),
}
assert LOSS < PRICE

NEVER = (False, False)
ALWAYS = (True, True)
ADMITTED = ("after admission.admit",)
DIED_IN_A_CHECK = ("before vendor.check",)

RUNNING = (
    Case("plain", "admission.admit"),
    Case("plain", "artifacts.put"),
    Case("plain", "artifacts.get"),
    Case("plain", "settlement.start_attempt"),
    Case("plain", "vendor.submit"),
    Case("plain", "settlement.note_attempt"),
    Case("plain", "vendor.check"),
    Case("plain", "outbound.fetch"),
    Case("plain", "artifacts.put", occurrence=2),
    Case("plain", "settlement.succeed"),
    Case("plain", "outbound.post"),
    Case("plain", "outbox.note_try"),
    *(Case("busy", "settlement.note_attempt", occurrence=number) for number in (1, 2, 3)),
    Case("lost", "vendor.lookup"),
    *(Case("lost", "settlement.note_attempt", occurrence=number) for number in (1, 2, 3)),
    *(Case("never", "settlement.note_attempt", occurrence=number) for number in (1, 2, 3, 4, 5)),
    Case("dark", "settlement.repeat_suspected"),
    Case("late", "settlement.take_up"),
    Case("absent", "settlement.clear_absent"),
    Case("linked", "vendor.upload"),
    Case("fails", "settlement.fail_attempt"),
    Case("fails", "settlement.end_job"),
    Case("stops", "jobs.request_cancel"),
    Case("stops", "vendor.cancel"),
    Case("stops", "settlement.fail_and_end"),
    Case("breaks", "parking.note_crash", meets_again=NEVER),
    Case("slow", "jobs.extend_leases", meets_again=ALWAYS),
    Case("slow", "jobs.update_job", opening=DIED_IN_A_CHECK, meets_again=ALWAYS),
    Case("parked", "parking.park", opening=DIED_IN_A_CHECK * 4),
)
BESIDE: Mapping[str, Literal["overdue", "parked"]] = {
    "overdue.end_overdue": "overdue",
    "overdue.end_parked": "parked",
}
STARTING = tuple(
    Case("plain", action, opening=ADMITTED, moment="start", beside=BESIDE.get(action, ""))
    for action in (
        "jobs.claim_due",
        "outbox.claim_due",
        "vendor.balance",
        "watch.note_balance",
        "events.price_drifted",
        "webhooks.keep_usage_webhook",
        "idempotency.prune",
        *BESIDE,
    )
)
# Only where no other process can be alive are leases let go of at a start.
ALONE = (Case("plain", "jobs.release_leases", opening=ADMITTED, moment="start", databases=("sqlite",)),)
DRAINING = (Case("slow", "jobs.release_leases", moment="drain", meets_again=ALWAYS),)
CASES = (*RUNNING, *STARTING, *ALONE, *DRAINING)
