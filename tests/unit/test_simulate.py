"""The synthetic week: the same seed gives the same week, its books add up, and what is changed in it shows."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from gateway.charts import Series, lines, page, stacked
from gateway.cli.main import program
from gateway.scenario import Scenario, ScenarioError, load_scenario, read_scenario
from gateway.simulate import Simulation
from gateway.simulate_report import plot

WEEK = Path(__file__).parents[2] / "examples" / "week.yaml"
SVD: Mapping[str, Any] = {"price_usd": 0.1, "latency": {"median_s": 30}}


def scenario(**changes: Any) -> Scenario:
    usual: dict[str, Any] = {
        "name": "a day",
        "days": 1,
        "arrivals": {"jobs_per_week": 1050},
        "requests": [{"name": "clip", "share": 1, "deadline_s": 300}],
        "routes": {"alpha/svd": SVD, "beta/svd": {**SVD, "price_usd": 0.3}},
    }
    return Scenario.model_validate(usual | changes)


def simulated(made: Scenario, seed: int = 1) -> dict[str, Any]:
    simulation = Simulation(made, seed)
    shares = list(simulation.run())
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    return simulation.figures.report(made.name, seed)


def test_the_same_seed_gives_the_same_week_and_another_another() -> None:
    """Nothing but the seed decides, so that two scenarios can be compared."""
    assert simulated(scenario(), 3) == simulated(scenario(), 3)
    assert simulated(scenario(), 3) != simulated(scenario(), 4)


@settings(max_examples=8)
@given(
    seed=st.integers(0, 1000),
    failing=st.sampled_from([0.0, 0.3, 1.0]),
    credit=st.sampled_from([None, 0.0, 3.0, 1000.0]),
    cap=st.sampled_from([None, 1, 5]),
)
@example(seed=69, failing=0.0, credit=3.0, cap=None)  # a render that ends after the last hour is paid, too
def test_every_job_ends_once_and_every_dollar_is_a_delivered_render(
    seed: int, failing: float, credit: float | None, cap: int | None
) -> None:
    """Under any mix of failures, dry accounts and caps: jobs, deliveries and money add up."""
    routes = {
        "alpha/svd": {**SVD, "failures": {"rate": failing}, "concurrency_max": cap},
        "beta/svd": {**SVD, "price_usd": 0.3},
    }
    made = scenario(arrivals={"jobs_per_week": 210}, routes=routes, providers={"alpha": {"credit_usd": credit}})
    report = simulated(made, seed)
    assert report["in_time"] + report["late"] + report["lost"] == report["jobs"]
    assert sum(one["delivered"] for one in report["routes"].values()) == report["in_time"] + report["late"]
    prices = {"alpha/svd": 100_000, "beta/svd": 300_000}
    for name, one in report["routes"].items():
        assert one["spend_micros"] == one["delivered"] * prices[name]
        assert one["calls"] == one["delivered"] + one["failed"] + one["refused"]
    alpha = report["providers"]["alpha"]
    if credit is not None:
        assert alpha["credit_left_micros"] == round(credit * 1e6) - alpha["spend_micros"]
        assert alpha["credit_left_micros"] >= 0


def test_an_account_that_runs_dry_is_left_for_the_dearer_one() -> None:
    """Credit for ten renders makes ten there; the rest is made elsewhere, and nobody is without a video."""
    report = simulated(scenario(providers={"alpha": {"credit_usd": 1.0}}))
    assert report["routes"]["alpha/svd"]["delivered"] <= 10
    assert report["lost"] == 0
    assert report["routes"]["beta/svd"]["delivered"] > 75


def test_credit_that_is_topped_up_does_not_run_dry() -> None:
    """What was bought on top is on the books: start plus bought less spent is left."""
    report = simulated(scenario(providers={"alpha": {"credit_usd": 2.0, "top_up": {"below_usd": 1.0, "add_usd": 5.0}}}))
    alpha = report["providers"]["alpha"]
    assert alpha["topped_up_micros"] > 0
    assert alpha["credit_left_micros"] == 2_000_000 + alpha["topped_up_micros"] - alpha["spend_micros"]
    assert alpha["dry_at_h"] is None


def test_an_outage_is_ridden_out_on_the_other_vendor_without_a_storm_of_calls() -> None:
    """Six hours without alpha: the breaker keeps the extra calls few, and no job is lost."""
    calm = simulated(scenario())
    stormy = simulated(scenario(providers={"alpha": {"outages": [{"from_h": 8, "hours": 6}]}}))
    assert stormy["lost"] == calm["lost"] == 0
    assert stormy["routes"]["beta/svd"]["delivered"] > calm["routes"]["beta/svd"]["delivered"]
    renders = sum(one["delivered"] for one in stormy["routes"].values())
    # One probe a minute at most while it is out, and three failures until the breaker opens.
    assert stormy["routes"]["alpha/svd"]["refused"] < 6 * 60 + 0.2 * renders


def test_a_limit_that_nobody_configured_is_learned_from_refusals() -> None:
    """A vendor's secret cap is met, refused beyond it, and never exceeded."""
    routes = {"alpha/svd": {**SVD, "concurrency_max": 2}, "beta/svd": {**SVD, "price_usd": 0.3}}
    busy = scenario(arrivals={"jobs_per_week": 10_000}, routes=routes, providers={"alpha": {"limits_known": False}})
    report = simulated(busy)
    assert report["routes"]["alpha/svd"]["peak_in_flight"] == 2
    assert report["routes"]["alpha/svd"]["refused"] > 0
    assert report["lost"] == 0


def test_another_card_of_our_own_saves_money() -> None:
    """Capacity questions have answers: two slots make more than one, and less is paid to vendors."""

    def week(slots: int) -> dict[str, Any]:
        local = {"mode": "local", "price_usd": 0.02, "latency": {"median_s": 60}, "slots": slots}
        return simulated(scenario(arrivals={"jobs_per_week": 7_000}, routes={"alpha/svd": SVD, "local/svd": local}))

    one, two = week(1), week(2)
    assert two["routes"]["local/svd"]["delivered"] > one["routes"]["local/svd"]["delivered"]
    assert two["spend_micros"] < one["spend_micros"]
    assert one["routes"]["local/svd"]["peak_in_flight"] >= 1


def test_a_blocked_picture_is_not_shopped_around() -> None:
    """A moderated request ends at once: one call each, nothing delivered, nothing billed."""
    report = simulated(scenario(requests=[{"name": "clip", "share": 1, "moderated": 1.0}]))
    assert report["kinds"]["clip"]["lost"] == {"moderated": report["jobs"]}
    assert sum(one["calls"] for one in report["routes"].values()) == report["jobs"]
    assert report["spend_micros"] == 0


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name: [", "is not YAML"),
        ("name: x", "arrivals: Field required"),
        ("{name: x, arrivals: {jobs_per_week: 1, hours: [1]}, requests: [], routes: {}}", "hours needs 24 weights"),
    ],
)
def test_a_scenario_that_cannot_be_read_says_where(text: str, told: str) -> None:
    """The first fault is named with its place."""
    with pytest.raises(ScenarioError, match=told):
        read_scenario(text, "week.yaml")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"routes": {"alpha": SVD}}, "provider/slug"),
        ({"routes": {"alpha/svd": {**SVD, "mode": "local"}}}, "slots"),
        ({"providers": {"gamma": {}}}, "'gamma' has no route"),
        ({"requests": [{"name": "clip", "share": 1, "routes": ["x/y"]}]}, "no route 'x/y'"),
    ],
)
def test_names_in_a_scenario_must_fit_together(changes: dict[str, Any], told: str) -> None:
    """A typing error in a name is a fault and not an empty result."""
    with pytest.raises(ValueError, match=told):
        scenario(**changes)


def test_the_example_week_is_one_of_ten_thousand_jobs_over_seven_days() -> None:
    """The example file is read, and its arrivals add up to what it says."""
    week = load_scenario(WEEK)
    assert sum(week.arrivals.jobs_in_hour(hour) for hour in range(7 * 24)) == pytest.approx(10_000)


def test_the_command_prints_json_and_writes_one_page_that_needs_nothing(tmp_path: Path) -> None:
    """`--json` is for machines, `--plot` a page without scripts or addresses."""
    file = tmp_path / "week.html"
    result = CliRunner().invoke(
        program(["simulate"]), ["simulate", str(WEEK), "--days", "1", "--json", "--plot", str(file)]
    )
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert (report["days"], report["seed"]) == (1, 1)
    html = file.read_text()
    assert html.count("<svg") == 3
    assert "<script" not in html
    assert "http" not in html.replace("http://www.w3.org", "")


def test_charts_that_cannot_be_written_are_refused_before_the_work(tmp_path: Path) -> None:
    """Another ending than .html is refused at once."""
    result = CliRunner().invoke(program(["simulate"]), ["simulate", str(WEEK), "--plot", str(tmp_path / "week.png")])
    assert result.exit_code == 2
    assert "charts are written as .html" in result.output


def test_charts_of_nothing_and_of_names_with_signs_are_still_pages() -> None:
    """An empty report draws empty axes, and a name is text and never markup."""
    empty = page("t", "s", [("none", lines([], [], unit="")), ("zero", stacked(["a"], [Series("x", [0.0])], unit="$"))])
    assert empty.count("<svg") == 2
    assert "<b>" not in lines(["a"], [Series("<b>", [1.0])], unit="")


def test_a_single_point_is_seen_and_a_wide_bar_says_its_value() -> None:
    """One day alone makes no line, so that its point is marked; two bars have room for their numbers."""
    assert lines(["a"], [Series("x", [1.0])], unit="").count("<circle") == 1
    assert ">900</text>" in stacked(["was", "would"], [Series("x", [900.0, 300.0])], unit="")


@pytest.mark.parametrize(
    ("highest", "written"),
    [
        (9.0, ["0", "2", "4", "6", "8", "10"]),
        (600.0, ["0", "100", "200", "300", "400", "500", "600"]),
        (0.0, ["0", "1"]),
    ],
)
def test_the_grid_is_of_round_numbers_and_ends_near_the_highest_value(highest: float, written: list[str]) -> None:
    """Counts of renders have no halves beside them, and no half of a chart stays empty."""
    drawn = lines(["a"], [Series("x", [highest])], unit="")
    assert re.findall(r'text-anchor="end">([^<]*)<', drawn) == written


def test_a_provider_has_one_colour_on_every_chart() -> None:
    """The first provider is not metered: the second keeps its colour where it is the only one."""
    told = simulated(scenario(providers={"beta": {"credit_usd": 5.0}}))
    charts = plot(told).split("<h2>")
    colours = [re.findall(r'background:(#\w+)"></i>beta<', chart) for chart in charts]
    assert len({colour for found in colours for colour in found}) == 1
    assert sum(map(len, colours)) == 2


def test_the_page_shows_spend_load_and_credit() -> None:
    """Credit is charted where an account is metered, and only there."""
    assert plot(simulated(scenario())).count("<svg") == 2
    assert plot(simulated(scenario(providers={"alpha": {"credit_usd": 5.0}}))).count("<svg") == 3
