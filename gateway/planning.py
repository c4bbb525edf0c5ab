"""From a request to a plan: which routes can honour it, at what price, in what order, and why.

Reads only what is in memory and decides nothing itself: fitting and ranking are `policies`, prices the price book's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from gateway.fleet import Fleet
from gateway.loads import Machines
from gateway.money.margin import TeamPlan
from gateway.money.prices import Price, PriceBook
from gateway.settings_routing import RoutingSection
from gateway.shadow import Opinion
from gateway.telemetry.tracing import span
from gateway.wishes import RoutingWish, Standing, limit_micros
from policies.fit import Fit, FitMode, ReceiptLine, fit, picture_line
from policies.values import Candidate, JobFacts, Objective, Ranking, Tried, Weights
from providers.capability import ImageForm, ImageGiven, Route
from providers.vocabulary import Media, Scalar

MICROS = 1_000_000
ACCOUNT_KINDS = frozenset({"unauthorized", "no_credit"})


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be made, for whom and by when. Times are unix seconds."""

    job_id: str
    media: Media
    written: Mapping[str, Scalar]
    mode: FitMode
    image_size: tuple[int, int]
    image_given: ImageGiven
    routing: RoutingWish
    team_plan: TeamPlan
    created_at: float
    deadline_at: float
    give_up_at: float
    standing: Standing

    @property
    def limit_micros(self) -> int | None:
        """The most that it may cost the team, micro-USD; None without a limit."""
        return limit_micros(self.routing, self.standing)


@dataclass(frozen=True, slots=True)
class Option:
    """An order on one route: the fit, the form in which the picture goes there, and what the team would pay.

    `machines` is how they stand where they are our own.
    """

    route: Route
    fit: Fit
    image_form: ImageForm | None
    price: Price | None
    team_price_micros: int
    worst_micros: int
    machines: Machines | None = None

    def receipt(self, wire: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The receipt of what is really sent: with the seed that was drawn."""
        lines = [asdict(line) for line in self.fit.receipt]
        for line in lines:
            if line["vendor_name"] in wire and line["sent"] != wire[line["vendor_name"]]:
                line["sent"] = wire[line["vendor_name"]]
                line["outcome"] = "defaulted" if line["asked"] is None else "converted"
                line["reason"] = "drawn by vidgate, so that the render can be repeated and recognised"
        return lines


@dataclass(frozen=True, slots=True)
class Plan:
    """A ranking with the options behind it."""

    decided_at: float
    objective: Objective
    ranking: Ranking
    options: Mapping[str, Option]
    shadow: Opinion | None = None

    @property
    def expected_at(self) -> float | None:
        """When what is waited for is expected to be over, unix seconds."""
        return None if self.ranking.over_s is None else self.decided_at + self.ranking.over_s

    def hold_micros(self) -> int:
        """The most that any route that is in or may come back could cost the team: what is reserved."""
        return max((option.worst_micros for option in self.payable()), default=0)

    def payable(self) -> list[Option]:
        """The routes that the hold is for: the ranked ones, best first, or while there are none, those that fit."""
        ranked = [self.options[quote.route] for quote in self.ranking.ranked]
        return ranked or [option for option in self.options.values() if not option.fit.refusals]

    def choice(self, held_micros: int, wrong: Collection[str]) -> Option | None:
        """The best option that can be paid and was not `wrong` before; None when there is none.

        The hold was sized by the first plan: a route that became dearer since is not taken on credit. One that did not
        deliver as ordered would not the next time either.
        """
        options = (self.options[quote.route] for quote in self.ranking.ranked if quote.route not in wrong)
        return next((option for option in options if option.team_price_micros <= held_micros), None)

    def refusals(self) -> str:
        """Every refused route with its first reason, as text."""
        return "; ".join(f"{one.route}: {one.reasons[0]}" for one in self.ranking.refused)

    def to_json(self) -> dict[str, Any]:
        """The plan as it is stored and shown."""
        return {
            "decided_at": self.decided_at,
            "objective": self.objective,
            "ranked": [
                quote._asdict()
                | {"reasons": list(quote.reasons), "price_micros": self.options[quote.route].team_price_micros}
                for quote in self.ranking.ranked
            ],
            "refused": [asdict(refusal) for refusal in self.ranking.refused],
            "wait_s": self.ranking.wait_s,
            "shadow": asdict(self.shadow) if self.shadow is not None else None,
        }


@dataclass(frozen=True, slots=True)
class Planner:
    """Makes plans over the fleet, the price book and the routing settings."""

    fleet: Fleet
    prices: PriceBook
    routing: RoutingSection
    image_form: Callable[[Route], ImageForm | None]

    def plan(self, order: Order, now: float, tried: Sequence[Tried] = ()) -> Plan:
        """Rank every route of the order's kind as of `now`.

        What the job has given up, and machines of our own whose queue is full, stay out as long as another route can be
        had, however cheap it would be to wait for: the length of a worker's queue is its operator's word on waiting.
        """
        with span("plan"):
            facts = self._facts(order, tried)
            given_up, full = self._given_up(tried), self._full()
            plan = self._ranked(order, facts, now, full | given_up)
            if plan.ranking.ranked or not (given_up or full):
                return plan
            waiting = self._ranked(order, facts, now, given_up) if given_up and full else plan
            return waiting if waiting.ranking.ranked else self._ranked(order, facts, now, {})

    def _ranked(self, order: Order, facts: JobFacts, now: float, kept_out: Mapping[str, str]) -> Plan:
        options = {
            route.name: self._option(order, route) for route in self.fleet.routes.values() if route.media == order.media
        }
        for name in kept_out.keys() & options.keys():
            fitted = options[name].fit
            refused = replace(fitted, refusals=(*fitted.refusals, kept_out[name]))
            options[name] = replace(options[name], fit=refused)
        candidates = [self._candidate(order, option) for option in options.values()]
        ranking = self.fleet.router.rank(facts, candidates, now)
        shadow = self.fleet.shadow if order.job_id else None
        opinion = shadow.opinion(facts, candidates, ranking, now) if shadow is not None else None
        return Plan(now, facts.objective, ranking, options, opinion)

    def _given_up(self, tried: Sequence[Tried]) -> dict[str, str]:
        """The routes that failed this job, and why; a bad key or an empty account takes its other routes along."""
        accounts = {one.route.partition("/")[0]: one.kind for one in tried if one.kind in ACCOUNT_KINDS}
        whole: dict[str, str] = {
            route.name: accounts[route.provider] for route in self.fleet.routes.values() if route.provider in accounts
        }
        reasons = whole | {one.route: one.kind for one in tried}
        return {name: f"this job has given it up: {kind}" for name, kind in reasons.items()}

    def _full(self) -> dict[str, str]:
        """The routes of our own machines whose queues take nothing more, with that in words."""
        return {
            name: f"the queue of its machines is full ({load.waiting} wait)"
            for name, load in self.fleet.loads.said(self.fleet.clock.now()).items()
            if load.full
        }

    def _option(self, order: Order, route: Route) -> Option:
        fitted = fit(route, order.written, mode=order.mode, image_size=order.image_size)
        machines = self.fleet.machines(route.name)
        # By the book of the moment of the order: what was quoted holds while the job runs, also for a later route.
        gpu_s = machines.render_s(fitted.values) if machines is not None else None
        price = self.prices.paced(route.name, fitted.values, order.created_at, gpu_s)
        form = self.image_form(route)
        refusals = [*fitted.refusals, *order.standing.refusals(route.name)]
        if form is None:
            refusals.append(
                "it takes the picture only as a link: set server.public_base_url to an address it can reach"
            )
        if machines is not None and not machines.load.offered:
            refusals.append("none of its machines has the model")
        if price is None:
            refusals.append("the price book has no price for it")
        team_price = worst = 0
        if price is not None:
            team_price = order.team_plan.price_micros(price.cost_micros, route.name)
            worst = max(team_price, order.team_plan.price_micros(price.worst_micros, route.name))
            limit = order.limit_micros
            if limit is not None and team_price > limit:
                refusals.append(f"it costs ${team_price / MICROS:.4f}, over the limit of ${limit / MICROS:.4f}")
            worst = worst if limit is None else min(worst, limit)
        receipt = (*_picture_lines(order, fitted, route, form), *fitted.receipt)
        fitted = replace(fitted, refusals=tuple(refusals), receipt=receipt)
        return Option(route, fitted, form, price, team_price, worst, machines)

    def _candidate(self, order: Order, option: Option) -> Candidate:
        route, machines = option.route, option.machines
        account, limits = self.fleet.account(route.name), self.fleet.limits(route.name)
        render_s = machines.render_s(option.fit.values) if machines is not None else None
        return Candidate(
            route=route.name,
            account=route.provider,
            mode=route.mode,
            price_micros=option.price.cost_micros if option.price else 0,
            nominal_latency_s=route.latency_nominal_s if render_s is None else render_s,
            size_class=size_class(option.fit),
            balance_micros=account.balance_micros,
            balance_at=account.balance_at,
            in_flight=self.fleet.in_flight(route.name) if machines is None else machines.running,
            concurrency_max=limits.concurrency_max,
            requests_per_minute=limits.requests_per_minute,
            slots=None if machines is None else machines.slots,
            queued=0 if machines is None else machines.queued,
            preview=route.preview and not self.routing.preview,
            refusals=option.fit.refusals,
        )

    def _facts(self, order: Order, tried: Sequence[Tried]) -> JobFacts:
        wish, standing, usual = order.routing, order.standing, self.routing
        weights = wish.weights or standing.weights or usual.weights
        return JobFacts(
            id=order.job_id,
            created_at=order.created_at,
            deadline_at=order.deadline_at,
            give_up_at=order.give_up_at,
            max_cost_micros=None,  # the limit is on the team's price, which `_option` has checked
            value_micros=usual.value_micros,
            late_fraction=usual.late_fraction,
            objective=wish.objective or standing.objective or usual.objective,
            weights=Weights(weights.cost, weights.time, weights.failure),
            tried=tuple(tried),
            only=wish.only,
            ignore=wish.ignore,
            order=wish.order,
            pin=wish.pin,
            deadline_probability=usual.deadline_probability,
        )


def _picture_lines(order: Order, fitted: Fit, route: Route, form: ImageForm | None) -> list[ReceiptLine]:
    """What becomes of the picture, where the route can be handed it at all."""
    if form is None:
        return []
    return [picture_line(route, fitted.values, given=order.image_given, form=form, image_size=order.image_size)]


def size_class(fitted: Fit) -> str:
    """The class of work that latency is learned by: frames and, where the caller has a say, steps."""
    frames = fitted.values.get("num_frames", fitted.values.get("samples", 1))
    steps = fitted.values.get("num_inference_steps")
    return f"{frames}" if steps is None else f"{frames}x{steps}"
