"""The last audit of a run: what the vendors did and what the receivers heard, against what the books say."""

from __future__ import annotations

from collections import Counter, defaultdict

from tests.sim.auditor import Auditor
from tests.sim.database import Database
from tests.sim.traffic import Traffic
from tests.sim.vendors import Vendor
from tests.sim.world import World

GOOD_ENDS = frozenset({"fine", "slow_render", "late"})


class Closing:
    """Runs once, when everything has come to rest."""

    def __init__(self, auditor: Auditor, vendors: list[Vendor]) -> None:
        self.auditor = auditor
        self.world: World = auditor.world
        self.database: Database = auditor.database
        self.traffic: Traffic = auditor.traffic
        self.vendors = vendors

    def check(self) -> None:
        """Everything has ended, nothing is held, nothing was run twice unnoticed, all was told."""
        self.auditor.step()
        active = self.database.rows("SELECT id, status FROM jobs WHERE finished_at IS NULL")
        self._must(not active, f"jobs that never end: {active}")
        held = self.database.rows("SELECT count(*) FROM holds WHERE state = 'open'")[0][0]
        self._must(held == 0, f"{held} holds are open at the end")
        self._check_keys()
        self._check_events()
        for vendor in self.vendors:
            self._check_vendor(vendor)

    def _must(self, holds: object, rule: str) -> None:
        if not holds:
            self.world.violated(rule)

    def _check_keys(self) -> None:
        """One job a key and team, and none beside what callers were told of, but those whose answer was lost."""
        by_key: dict[tuple[str, str], set[str]] = defaultdict(set)
        for one in self.traffic.acknowledged.values():
            if one.key is not None:
                by_key[one.team, one.key].add(one.job_id)
        for key, job_ids in by_key.items():
            self._must(len(job_ids) == 1, f"one key made several jobs: {key} {sorted(job_ids)}")

    def _check_events(self) -> None:
        """Every event was taken by its receiver at least once, always as the same bytes under the same id."""
        heard = defaultdict(list)
        for one in self.traffic.received:
            heard[one.event_id].append(one)
        rows = self.database.rows("SELECT id, body FROM events ORDER BY id")
        for event_id, body in rows:
            told = heard.get(event_id, [])
            self._must(any(one.kept for one in told), f"event {event_id} was never delivered")
            self._must({one.body for one in told} <= {body.encode()}, f"event {event_id} was told in several ways")
        self._must(set(heard) <= {event_id for event_id, _ in rows}, "an event was told that is not written")
        left = self.database.rows("SELECT event_id, state FROM webhook_deliveries WHERE state <> 'delivered'")
        self._must(not left, f"deliveries that are not done: {left}")

    def _check_vendor(self, vendor: Vendor) -> None:
        """What the vendor ran and bills, attempt by attempt, against what was booked for it."""
        jobs = dict(self.database.rows("SELECT id, job_id FROM attempts"))
        accepted: Counter[str] = Counter(render.attempt_id for render in vendor.renders.values())
        charged: Counter[str] = Counter()
        for render in vendor.renders.values():
            charged[jobs.get(render.attempt_id, "of no job")] += vendor.charge_micros(render)
        account, suspended, booked = f"provider:{vendor.name}", Counter[str](), Counter[str]()
        for kind, attempt_id, debit, credit, amount in self.database.rows(
            "SELECT kind, attempt_id, debit, credit, amount_micros FROM entries ORDER BY id"
        ):
            name = str(attempt_id).partition("/")[0]
            sign = (credit == account) - (debit == account)
            booked[jobs.get(name, "of no job")] += sign * amount
            suspended[name] += kind == "suspend"
        for attempt_id, count in accepted.items():
            allowed = 1 + suspended[attempt_id]
            self._must(count <= allowed, f"{vendor.name} ran {attempt_id} {count} times, {allowed} are accounted for")
        for job_id, amount in charged.items():
            missing = amount - booked[job_id]
            self._must(missing <= 0, f"{vendor.name} bills {missing} micros for {job_id} that nobody booked")
        self._check_results(vendor)
        self._check_retries(vendor)

    def _check_results(self, vendor: Vendor) -> None:
        """A job succeeded by a render that the vendor finished as ordered, and its cost is the vendor's."""
        jobs = dict(self.database.rows("SELECT id, job_id FROM attempts"))
        rows = self.database.rows(
            "SELECT id, vendor_request_id, cost_micros, cost_source FROM attempts "
            "WHERE account = ? AND state = 'succeeded'",
            vendor.name,
        )
        for attempt_id, request_id, cost, source in rows:
            render = vendor.renders.get(request_id)
            if render is None or jobs[render.attempt_id] != jobs[attempt_id]:
                self.world.violated(f"{attempt_id} succeeded by {request_id}, which is another's or nobody's")
                continue
            self._must(render.end in GOOD_ENDS, f"{attempt_id} succeeded by a render that is {render.end}")
            same = cost == vendor.price_micros or source == "balance"
            self._must(same, f"{attempt_id} cost {vendor.price_micros}, booked was {cost} ({source})")

    def _check_retries(self, vendor: Vendor) -> None:
        """Submits an attempt stay under their cap, and repeats within the shared budget, whatever crashes."""
        retry = self.world.scenario.settings["retry"]
        times = Counter(one.attempt_id for one in vendor.calls)
        over = {name: count for name, count in times.items() if count > retry["submits_max"]}
        self._must(not over, f"{vendor.name} was sent more submits than allowed: {over}")
        repeats = sum(count - 1 for count in times.values())
        # A deposit lives for one window and can be seen from the two that it lies in.
        allowed = 2 * retry["budget_ratio"] * len(times)
        reserve = retry["budget_reserve_per_s"] * (self.world.loop.virtual_s + 10.0)
        self._must(repeats <= allowed + reserve, f"{vendor.name}: {repeats} repeats of {len(times)} submits")
