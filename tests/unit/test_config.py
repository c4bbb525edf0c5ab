"""A configuration as a whole: relations, providers, prices, warnings, and every fault at once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import Configuration, check, load, load_text
from gateway.config_errors import ConfigurationError, nearest
from gateway.settings import Settings
from providers.registry import BUILTIN

NOW = 1_800_000_000.0
PLUGINS = {plugin.name: plugin for plugin in BUILTIN}
SECRET = "security: {signing_secret: a-secret-of-enough-bytes-12345}\n"
GOOD = SECRET + "providers: {segmind: {api_key: SG_0123456789abcdef}}\n"
EXAMPLE = Path(__file__).parents[2] / "examples" / "vidgate.yaml"
ENVIRONMENT = {
    "VIDGATE_SIGNING_SECRET": "a-secret-of-enough-bytes-12345",
    "SEGMIND_API_KEY": "SG_0123456789abcdef",
    "MODELSLAB_API_KEY": "a-modelslab-key",
    "VIDGATE_GPU_TOKEN": "a-gpu-token",
}


def read(text: str, environment: Mapping[str, str] | None = None) -> Configuration:
    """A configuration that is to be good."""
    return load_text(text, "vidgate.yaml", environment=environment or {}, plugins=PLUGINS, at=NOW)


def faults(text: str, environment: Mapping[str, str] | None = None) -> list[str]:
    """The faults of a configuration that is to be bad, as a person sees them."""
    with pytest.raises(ConfigurationError) as caught:
        read(text, environment)
    return [problem.text("vidgate.yaml") for problem in caught.value.problems]


def test_the_smallest_configuration_is_a_secret_and_one_account() -> None:
    """Two lines are enough, and every route of the provider is there."""
    configuration = read(GOOD)
    assert list(configuration.accounts) == ["segmind"]
    assert {route.provider for route in configuration.routes} == {"segmind"}
    assert configuration.warnings == ()


def example_with_every_provider() -> str:
    """The example with every vendor's section taken in, as its comments say."""
    head, rest = EXAMPLE.read_text(encoding="utf-8").split("\nproviders:\n")
    sections, tail = rest.split("\njobs:\n")
    taken_in = re.sub(r"^  # ( *[a-z_0-9]+:)", r"  \1", sections, flags=re.MULTILINE)
    return f"{head}\nproviders:\n{taken_in}\njobs:\n{tail}"


def test_the_example_file_needs_the_secrets_of_one_vendor_alone() -> None:
    """`examples/vidgate.yaml` passes its own check with the two variables that the README sets."""
    variables = {name: ENVIRONMENT[name] for name in ("VIDGATE_SIGNING_SECRET", "SEGMIND_API_KEY")}
    configuration = load(EXAMPLE, environment=variables, plugins=PLUGINS, at=NOW)
    assert set(configuration.accounts) == {"segmind", "preview"}
    readme = (EXAMPLE.parents[1] / "README.md").read_text(encoding="utf-8")
    (line,) = [line for line in readme.splitlines() if "VIDGATE_SIGNING_SECRET" in line]
    assert set(re.findall(r"([A-Z_]{8,})=", line)) == set(variables)


def test_the_example_file_is_good_with_every_vendor_taken_in() -> None:
    """What is commented out works, too, once its variables are set."""
    configuration = read(example_with_every_provider(), ENVIRONMENT)
    assert set(configuration.accounts) == set(PLUGINS)
    only_links, open_metrics = configuration.warnings
    assert "server.public_base_url" in only_links.detail
    assert open_metrics.path == ("telemetry", "metrics_token")  # a line of the example to be taken in


def test_the_example_file_lists_every_missing_variable_and_nothing_else() -> None:
    """A first try tells at once all that must be set, without follow-up errors about the gaps."""
    said = faults(example_with_every_provider())
    assert len(said) == len(ENVIRONMENT)
    assert all(any(name in detail for detail in said) for name in ENVIRONMENT)


@pytest.mark.parametrize(
    ("line", "is_secret"),
    [
        ("security: {signing_secret: '${NAME}'}", True),
        ("providers: {segmind: {api_key: '${NAME}'}}", True),
        ("providers: {local: {workers: [http://x], token: '${NAME}'}}", True),
        ("telemetry: {otlp_headers: '${NAME}'}", True),
        ("money: {usage_webhook: {url: https://example.com, secret: '${NAME}'}}", True),
        ("server: {port: '${NAME}'}", False),
        ("providers: {segmind: {base_url: '${NAME}'}}", False),
        ("providers: {nobody: {api_key: '${NAME}'}}", False),
    ],
)
def test_a_default_is_offered_for_settings_and_never_for_secrets(line: str, is_secret: bool) -> None:
    """Whatever section it stands in, a secret is to be set and not to be written."""
    (fault,) = [fault for fault in faults(line + "\n") if "NAME" in fault]
    assert ("${NAME:-default}" not in fault) is is_secret


def test_every_fault_is_told_at_once_in_the_order_of_the_file() -> None:
    """Settings, providers, references and duplicates are all checked before anything is said."""
    text = (
        "server:\n"
        "  prt: 1\n"
        "  public_base_url: ftp://x\n"
        "security: {signing_secret: short}\n"
        "providers:\n"
        "  segmind: {api_key: '${KEY}', routes: [segmind/svdd]}\n"
        "  modelslab:\n"
        "    api_kee: 1\n"
        "  other:\n"
        "jobs:\n"
        "  lease_s: 3\n"
        "  lease_s: 5\n"
    )
    found = faults(text)
    assert [fault.split(": ")[:2] for fault in found] == [
        ["vidgate.yaml:2", "server.prt"],
        ["vidgate.yaml:3", "server.public_base_url"],
        ["vidgate.yaml:4", "security.signing_secret"],
        ["vidgate.yaml:6", "providers.segmind.api_key"],
        ["vidgate.yaml:6", "providers.segmind.routes"],
        ["vidgate.yaml:7", "providers.modelslab.api_key"],
        ["vidgate.yaml:8", "providers.modelslab.api_kee"],
        ["vidgate.yaml:9", "providers.other"],
        ["vidgate.yaml:12", "jobs.lease_s"],
    ]
    assert "did you mean `port`?" in found[0]
    assert "did you mean `api_key`?" in found[6]
    assert "known are: local, modelslab, openai_videos, preview, segmind" in found[7]


@pytest.mark.parametrize(
    ("section", "path", "said"),
    [
        ("jobs: {lease_s: 12, heartbeat_s: 4}", "jobs.lease_s", "set it above 12"),
        ("jobs: {deadline_s: 900, deadline_max_s: 800}", "jobs.deadline_s", "at most 800"),
        ("retry: {base_s: 30, cap_s: 20}", "retry.base_s", "at most 20"),
        ("polling: {delay_min_s: 20, delay_max_s: 10}", "polling.delay_min_s", "at most 10"),
        ("store: {url: 'mysql://db/vidgate'}", "store.url", "sqlite"),
        ("bus: {url: 'nats://host'}", "bus.url", "memory"),
        ("bus: {url: 'redis+sentinel://host:26379'}", "bus.url", "must name the master"),
        ("bus: {namespace: 'a b'}", "bus.namespace", "pattern"),
        ("outbound: {allow_hosts: [10.0.0.1/8]}", "outbound.allow_hosts.0", "host bits set"),
        ("outbound: {allow_hosts: [ok.example, 10.0.0.0/99]}", "outbound.allow_hosts.1", "write host:port"),
        ("money: {price_book: /no/such/prices.yaml}", "money.price_book", "No such file"),
        ("retry: {ambiguous: always}", "retry.ambiguous", "'verify', 'retry' or 'never'"),
        ("server: {port: eighty}", "server.port", "valid integer"),
        ("routing: {weights: {cots: 1}}", "routing.weights.cots", "did you mean `cost`?"),
        ("routing: {tuning: {nothing_like_it: 1}}", "routing.tuning.nothing_like_it", "unknown key"),
    ],
)
def test_a_contradiction_is_refused_with_the_sentence_that_mends_it(section: str, path: str, said: str) -> None:
    """What must hold between settings is checked at start, and the error names the setting and the way out."""
    (fault,) = faults(GOOD + section + "\n")
    assert fault.startswith(f"vidgate.yaml:3: {path}: ")
    assert said in fault


def test_lease_and_heartbeat_just_right_are_accepted() -> None:
    """The rule is more than three heartbeats, to the last tenth."""
    assert read(GOOD + "jobs: {lease_s: 12.1, heartbeat_s: 4}\n").settings.jobs.lease_s == 12.1


def test_several_replicas_are_refused_on_parts_that_serve_one_process() -> None:
    """SQLite and the in-process bus each say so, with what to change."""
    found = faults(GOOD + "server: {replicas: 2}\n")
    assert len(found) == 2
    assert all("or server.replicas to 1" in fault for fault in found)
    mended = {fault.split(": ")[1]: fault for fault in found}
    assert set(mended) == {"store.url", "bus.url"}
    assert "set it to postgresql://" in mended["store.url"]
    assert "set it to redis://" in mended["bus.url"]


def test_several_replicas_without_redis_are_refused_on_postgresql_too() -> None:
    """A shared database is not enough: without Redis a replica would not hear of what another one did."""
    (fault,) = faults(GOOD + "server: {replicas: 2}\nstore: {url: 'postgresql://vidgate@db/vidgate'}\n")
    assert fault.split(": ")[1] == "bus.url"


@pytest.mark.parametrize("bus", ["redis://cache", "redis+sentinel://a,b/main/0", "rediss+cluster://:secret@a:7000,b"])
def test_several_replicas_on_postgresql_and_redis_may_start(bus: str) -> None:
    """Every deployment of Redis will do; the password in its URL is not shown with the settings."""
    text = GOOD + "server: {replicas: 2}\nstore: {url: 'postgresql://vidgate@db/vidgate'}\n"
    settings = read(f"{text}bus: {{url: '{bus}'}}\n").settings
    assert settings.bus.url == bus
    assert bus not in repr(settings)


def test_one_process_on_postgresql_needs_no_redis() -> None:
    """A single replica may keep its books on PostgreSQL."""
    assert read(GOOD + "store: {url: 'postgres://vidgate@db/vidgate?sslmode=require'}\n").settings.server.replicas == 1


def test_no_provider_is_an_error_that_lists_them() -> None:
    """A gateway without a vendor has nothing to do; a simulator is not put in its place."""
    for text in (SECRET, SECRET + "providers:\n", SECRET + "providers: {}\n"):
        (fault,) = faults(text)
        assert "no provider is configured" in fault
        assert "segmind" in fault


def test_a_route_without_a_price_does_not_start(tmp_path: Path) -> None:
    """A price book that leaves a route without a price in force is an error naming the route."""
    book = tmp_path / "prices.yaml"
    term = "{per: call, usd: '0.1', confidence: average, source: test}"
    book.write_text(
        f"currency: USD\nroutes:\n  segmind/svd:\n    - {{effective_from: 2999-01-01, terms: [{term}]}}\n",
        encoding="utf-8",
    )
    (fault,) = faults(GOOD + f"money: {{price_book: {book}}}\n")
    assert "money.price_book: has no price for segmind/svd: add one" in fault


def test_a_route_that_takes_only_links_is_warned_about() -> None:
    """Without a public address it may never be used, which is better known at start."""
    text = SECRET + "providers: {modelslab: {api_key: long-enough-key}}\n"
    (warning,) = read(text).warnings
    assert warning.path == ("routes", "modelslab/svd")
    assert read(text + "server: {public_base_url: 'https://v.example'}\n").warnings == ()


def test_metrics_without_a_token_on_an_address_of_the_network_are_warned_about() -> None:
    """They hold every team's money; on loopback that is nobody's business."""
    open_to_all = GOOD + "server: {host: 0.0.0.0}\n"
    (warning,) = read(open_to_all).warnings
    assert warning.path == ("telemetry", "metrics_token")
    assert read(open_to_all + "telemetry: {metrics_token: a-token-of-the-scraper}\n").warnings == ()


@pytest.mark.parametrize(
    ("url", "warned"), [("http://v.example", True), ("http://127.0.0.1:80", False), ("https://v.example", False)]
)
def test_a_public_address_in_plain_http_is_warned_about(url: str, warned: bool) -> None:
    """Pictures would travel readable; on loopback that is nobody's business."""
    warnings = read(GOOD + f"server: {{public_base_url: '{url}'}}\n").warnings
    assert [warning.path for warning in warnings] == ([("server", "public_base_url")] if warned else [])


def test_only_the_chosen_routes_are_configured() -> None:
    """`routes` takes a part of what a provider offers."""
    text = SECRET + "providers: {segmind: {api_key: SG_x, routes: [segmind/svd]}}\n"
    assert [route.name for route in read(text).routes] == ["segmind/svd"]


def test_a_file_that_is_not_there_is_one_clear_error(tmp_path: Path) -> None:
    """A wrong name, a folder, and bytes that are no text."""
    for name, said in (("missing.yaml", "No such file"), (".", "directory")):
        with pytest.raises(ConfigurationError, match=said):
            load(tmp_path / name, environment={}, plugins=PLUGINS, at=NOW)
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigurationError, match="not UTF-8"):
        load(tmp_path / "bytes.yaml", environment={}, plugins=PLUGINS, at=NOW)


@given(st.text(st.characters(codec="ascii", exclude_categories=["C"]), min_size=8, max_size=60))
def test_no_error_repeats_a_value(secret: str) -> None:
    """A value may be a secret; what is wrong with it is said without it."""
    marked = f"SECRET-{secret}-SECRET"
    for section in ("server: {port: '${V}'}", "retry: {ambiguous: '${V}'}", "server: {public_base_url: '${V}'}"):
        assert not any(marked in fault for fault in faults(GOOD + section + "\n", {"V": marked}))
    accounts = "providers: {segmind: {api_key: '${V}', base_url: '${V}'}, modelslab: {api_key: x, queue_max: '${V}'}}\n"
    assert not any(marked in fault for fault in faults(SECRET + accounts, {"V": marked}))


def test_settings_made_in_code_are_checked_the_same_way() -> None:
    """`check` is what the development server uses; it raises the same error."""
    settings = Settings.model_validate(
        {"security": {"signing_secret": "x" * 24}, "providers": {"preview": {}}, "jobs": {"lease_s": 1}}
    )
    with pytest.raises(ConfigurationError, match=r"jobs\.lease_s"):
        check(settings, PLUGINS, at=NOW)


def test_the_nearest_name_is_offered_or_the_list_when_none_is_near() -> None:
    """A typing mistake gets one suggestion; anything else sees what there is."""
    assert nearest("segmnd", ["segmind", "modelslab"]) == "did you mean `segmind`?"
    assert nearest("xyz", ["b", "a"]) == "known are: a, b"
    assert nearest("xyz", []) == "there are none"
    assert nearest("zzz", [f"name{number:02}" for number in range(20)]).endswith(", ...")
