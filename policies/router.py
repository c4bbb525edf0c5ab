"""The router: ranks the routes of one job by expected total cost, and learns from what the engine observes.

The service runs one attempt of a job at a time and never a second beside it: it gives no `JobFacts.in_flight`, nothing
spent and no `max_cost_micros` (gateway/planning.py checks the limit). What reviews a job in flight and hedges
(`_review`, `_flights`, the order by `_ready`) runs in policies/simulation.py alone.
"""

from __future__ import annotations

import random as random_module
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import log

from policies.explain import quotes, refusal, waiting
from policies.local_queue import Place, WaitingRoom, call_place, slot_place
from policies.memory import Memory
from policies.objective import Flight, Flights, Option, Stakes, ValueCurve, best_backup
from policies.plans import Assessment, assess, assess_all, assess_queued, later_curve
from policies.polling import PollSchedules
from policies.ranking import order_by_objective
from policies.screening import Screen, Screened, local_wait_s
from policies.settings import RoutingSettings
from policies.values import Candidate, JobFacts, Observation, Ranking, RouteStatistics


@dataclass(slots=True)
class Decision:
    """One decision in the making."""

    job: JobFacts
    now: float
    stakes: Stakes
    screened: list[Screened]
    curve: ValueCurve


class Router:
    """Decides over plain values. Its state changes in `observe`, and in `rank` only for jobs that are held.

    Held jobs wait for a local slot or for a call of a limited account; their places, and the usual gain of a local
    slot, are noted when they are ranked. Today no decision is drawn by chance: `random` is there for policies that
    explore.
    """

    def __init__(self, settings: RoutingSettings, random: random_module.Random) -> None:
        self._settings = settings
        self._random = random
        self._memory = Memory(settings)
        self._polls = PollSchedules(settings)
        self._rooms: dict[str, WaitingRoom] = {}
        self._usual_gain: dict[str, float] = {}

    def observe(self, observation: Observation) -> None:
        """Take in one fact about a route or an account."""
        self._memory.observe(observation)
        self._polls.observe(observation)

    def rank(self, job: JobFacts, candidates: Sequence[Candidate], now: float) -> Ranking:
        """Rank the candidates of one job at `now`; an empty job id asks without being held for a local slot."""
        screened = Screen(self._settings, self._memory, now).candidates(job, candidates)
        stakes = Stakes(
            deadline_s=job.deadline_at - now,
            give_up_s=max(job.give_up_at, job.deadline_at) - now,
            value=float(job.value_micros),
            late_fraction=job.late_fraction,
        )
        running = frozenset(route for route, flight in job.in_flight if flight.state == "running")
        remote: list[Option] = []
        local: list[Screened] = []
        unusual: list[Screened] = []  # out, held up, or already running this job
        for one in screened:
            option, candidate = one.option, one.candidate
            beside = candidate.route in running
            if one.reasons or beside:
                unusual.append(one)
            if option is None or beside:
                continue
            if candidate.mode == "local":
                local.append(one)
            else:
                remote.append(option)
        curve = later_curve(stakes, remote, self._settings)
        decision = Decision(job, now, stakes, screened, curve)
        assessed = assess_all(stakes, remote, curve, self._settings)
        if local:
            best_remote = min((one.cost for one in assessed), default=stakes.value)
            assessed.extend([self._assess_local(decision, one, best_remote) for one in local])
        ordered = order_by_objective(job, assessed)
        if job.in_flight:
            ordered.sort(key=lambda pair: not self._ready(pair[1]))
        wait_s = self._review(decision, ordered) if job.in_flight else self._start(decision, ordered)
        if wait_s is None:
            self._leave_rooms(job.id)
        why, over_s = ("", None) if wait_s is None else waiting(ordered, screened)
        return Ranking(
            ranked=quotes(job, ordered, now),
            refused=tuple([refusal(one, running) for one in unusual]),
            wait_s=wait_s,
            why=why,
            over_s=over_s,
        )

    def next_poll_delay_s(
        self, route: str, size_class: str, *, elapsed_s: float, eta_s: float | None, nominal_latency_s: float
    ) -> float:
        """Seconds from now, `elapsed_s` after dispatch, until the next status call pays."""
        return self._polls.next_delay_s(
            route, size_class, elapsed_s=elapsed_s, eta_s=eta_s, nominal_latency_s=nominal_latency_s
        )

    def snapshot(self, route: str, now: float) -> RouteStatistics:
        """What is known about one route, of the size class seen first; a route never seen has no latency yet."""
        memory = self._memory.known_route(route)
        if memory is None:
            return RouteStatistics(0.0, 0.0, 1.0 - self._settings.failure_prior, "closed", 0.0)
        estimates = [memory.latency(name, 1.0) for name in memory.size_classes[:1]]
        law = estimates[0].law(now) if estimates else None
        return RouteStatistics(
            p50_s=law.p50_s if law else 0.0,
            p95_s=law.p95_s if law else 0.0,
            success_rate=memory.outcome.success_rate(now),
            breaker=memory.breaker.state(now),
            observations=memory.outcome.count(now),
        )

    def _assess_local(self, decision: Decision, one: Screened, best_remote: float) -> Assessment:
        """Assess a local route, counting those who are held before this job and what the slot is worth to others."""
        option, job = one.option, decision.job
        assert option is not None
        if option.wait_s <= 0.01 and option.delay_s <= self._settings.start_slack_s:
            return assess(decision.stakes, option, decision.curve, self._settings)
        place = self._place(decision, one, best_remote)
        room = self._room(option.route)
        mine = [flight for route, flight in job.in_flight if route == option.route]
        if mine:
            ahead = sum(1 for f in one.candidate.in_flight if f.state == "queued" and f.started_at < mine[0].started_at)
        else:
            ahead = one.candidate.queued + room.ahead(job.id, place, decision.now)
        settings = self._settings
        waiting = one.candidate.queued + len(room) / settings.held_per_slot
        busy = min(1.0, waiting / max(1, one.candidate.slots or 1))
        rent = settings.slot_rent * busy * max(0.0, self._usual_gain.get(option.route, 0.0))
        queued = replace(
            option, wait_s=local_wait_s(one.candidate, self._memory, option.law.mean_s, decision.now, ahead)
        )
        return assess_queued(decision.stakes, queued, rent, decision.curve, settings)

    def _enter(self, room: WaitingRoom, job: str, place: Place, now: float) -> None:
        """Hold a job in one room, and in no other; a question without a job id is not held."""
        for other in self._rooms.values():
            if other is not room:
                other.leave(job)
        if job:
            room.enter(job, place, now)

    def _leave_rooms(self, job: str) -> None:
        for room in self._rooms.values():
            room.leave(job)

    def _room(self, route: str) -> WaitingRoom:
        room = self._rooms.get(route)
        if room is None:
            room = self._rooms[route] = WaitingRoom(3.0 * self._settings.hold_tick_s)
        return room

    def _place(self, decision: Decision, one: Screened, best_remote: float) -> Place:
        option, stakes = one.option, decision.stakes
        assert option is not None
        gain = best_remote - option.price
        usual = self._usual_gain.get(option.route)
        fits = stakes.deadline_s > 1.1 * option.law.mean_s and best_remote < stakes.value
        if fits and decision.job.id and not decision.job.tried and decision.now - decision.job.created_at < 0.01:
            self._usual_gain[option.route] = gain if usual is None else usual + 0.03 * (min(gain, 3.0 * usual) - usual)
        service_s = option.law.mean_s
        worth = log(gain / usual) if usual is not None and min(gain, usual) > 0.0 else 0.0
        head_start_s = self._settings.gain_head_start * service_s * worth
        useful_s = stakes.deadline_s - 1.15 * service_s
        free_s = decision.curve.level_until_s(self._settings.wait_cost_share * max(0.0, gain))
        return slot_place(decision.now + min(useful_s, free_s), head_start_s)

    def _start(self, decision: Decision, ordered: list[tuple[float, Assessment]]) -> float | None:
        """Nothing is in flight: go, or say how long to wait."""
        settings, stakes, job = self._settings, decision.stakes, decision.job
        patience_s = min(settings.wait_max_s, max(1.0, stakes.give_up_s / 4.0))
        if not ordered:
            return patience_s if any(one.passing for one in decision.screened) else None
        best = ordered[0][1]
        if stakes.value > 0.0 and best.cost >= stakes.value * 0.999 and job.objective == "default":
            return patience_s
        if best.leave_s is not None and job.objective == "default":
            return self._hold(decision, best)
        turn_s = self._turn(decision, ordered) if job.objective == "default" else best.option.delay_s
        return min(turn_s, patience_s) if turn_s > settings.start_slack_s else None

    def _turn(self, decision: Decision, ordered: list[tuple[float, Assessment]]) -> float:
        """Seconds until it is this job's turn to call its best route; a better plan meanwhile is moved to the front.

        On an account with a learned spacing the calls are scarce: the waiting job that gains most goes first.
        """
        best, job, now = ordered[0][1], decision.job, decision.now
        account = next(one.candidate.account for one in decision.screened if one.candidate.route == best.option.route)
        gap_s = self._memory.account(account).rate.gap_s
        if gap_s <= 0.0:
            return best.option.delay_s
        account_of = {one.candidate.route: one.candidate.account for one in decision.screened}
        others = [pair for pair in ordered if account_of[pair[1].option.route] != account]
        benefit = min((one.cost for _, one in others), default=decision.stakes.value) - best.cost
        room, place = self._room("calls of " + account), call_place(benefit)
        ahead = room.ahead(job.id, place, now)
        turn_s = best.option.delay_s + ahead * gap_s
        if turn_s <= self._settings.start_slack_s:
            return 0.0
        later = assess(decision.stakes, replace(best.option, delay_s=turn_s), decision.curve, self._settings)
        ready = next((pair for pair in others if self._ready(pair[1])), None)
        if ready is not None and ready[1].cost < later.cost:
            ordered.remove(ready)
            ordered.insert(0, ready)
            return 0.0
        self._enter(room, job.id, place, now)
        return turn_s if ahead == 0 else max(1.0, best.option.delay_s)

    def _hold(self, decision: Decision, best: Assessment) -> float | None:
        """Hold the job until a local slot is about to come free and nobody goes before it."""
        settings, option, now = self._settings, best.option, decision.now
        one = next(one for one in decision.screened if one.candidate.route == option.route)
        best_remote = decision.curve.costs[0]
        place = self._place(decision, one, best_remote)
        room = self._room(option.route)
        first = room.ahead(decision.job.id, place, now) == 0
        slot_s = local_wait_s(one.candidate, self._memory, option.law.mean_s, now)
        if option.delay_s > settings.start_slack_s:
            slot_s = max(slot_s, option.delay_s + settings.bind_ahead_s)
        if first and slot_s <= settings.bind_ahead_s:
            return None
        self._enter(room, decision.job.id, place, now)
        tick_s = min(settings.hold_tick_s, max(0.5, slot_s - settings.bind_ahead_s)) if first else settings.hold_tick_s
        return max(0.5, min(tick_s, best.leave_s or tick_s))

    def _review(self, decision: Decision, ordered: list[tuple[float, Assessment]]) -> float | None:
        """Something is in flight: stay, or start a second attempt, or leave a local queue for another route."""
        settings, stakes = self._settings, decision.stakes
        tick_s = max(1.0, min(settings.review_tick_s if stakes.deadline_s > 0.0 else 15.0, stakes.give_up_s))
        flights = self._flights(decision)
        if not ordered or not self._ready(ordered[0][1]):
            return tick_s
        if not flights:
            queued = [one for _, one in ordered if one.leave_s is not None]
            stay = min((one.cost for one in queued), default=stakes.value)
            leave_s = min((one.leave_s for one in queued if one.leave_s is not None), default=tick_s)
            return None if ordered[0][1].cost < stay else max(1.0, min(tick_s, leave_s))
        backup = best_backup(stakes, Flights(tuple(flights)), decision.curve)
        if backup.cost_now < settings.hedge_gain * backup.cost_later:
            return None
        return max(1.0, min(tick_s, backup.later_s or tick_s))

    def _ready(self, one: Assessment) -> bool:
        """Whether an option starts at once: it needs no pause and no place in a queue."""
        return one.leave_s is None and one.option.delay_s <= self._settings.start_slack_s

    def _flights(self, decision: Decision) -> list[Flight]:
        """The job's own running attempts, with the odds that they are dead growing with age."""
        flights = []
        for route, flight in decision.job.in_flight:
            one = next((one for one in decision.screened if one.candidate.route == route), None)
            if flight.state == "queued" or one is None:
                continue
            memory = self._memory.route(route, one.candidate.account)
            law = memory.latency(one.candidate.size_class, one.candidate.nominal_latency_s).law(decision.now)
            age_s = max(0.0, decision.now - self._memory.started_at(flight.attempt, flight.started_at))
            unseen = memory.outcome.shape.unseen(age_s)
            dead = memory.outcome.stuck_share + (1.0 - memory.outcome.success_rate(decision.now)) * unseen
            flights.append(Flight(law, age_s, dead))
        return flights
