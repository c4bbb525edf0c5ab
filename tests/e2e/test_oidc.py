"""Tokens of a real issuer over real HTTP: which are believed, which are not, and what goes on when it is down."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from joserfc.jwk import OctKey, RSAKey

from gateway import people
from gateway.config_checks import relations
from gateway.oidc import KEYS_MAX, REFRESH_EVERY_S, STALE_MAX_S, TOKEN_LENGTH_MAX, Oidc
from gateway.outbound import Outbound
from gateway.people import Person, granted, roles_in
from gateway.problems import Forbidden, Problem, Unauthorized, Unavailable
from gateway.scopes import Scope
from gateway.settings import Settings
from gateway.settings_edge import OidcRoleSection, OidcSection
from tests.support.issuer import AUDIENCE, ROLES, Issuer, issuing, key_of
from tests.support.undone import Stopped

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """Real time: the issuer is on real sockets."""
    return "asyncio"


class Hands(Stopped):
    """A clock that is turned by hand."""

    at = 1_700_000_000.0

    def now(self) -> float:
        return self.at


class Bench:
    """An issuer and the part that trusts it, with a clock in hand."""

    def __init__(self, issuer: Issuer, outbound: Outbound, **changes: Any) -> None:
        self.issuer, self.clock = issuer, Hands()
        self.settings = OidcSection.model_validate(
            {"issuer": issuer.url, "audience": AUDIENCE, "roles": ROLES, **changes}
        )
        self.oidc = Oidc(self.settings, outbound, self.clock)  # type: ignore[arg-type]

    def token(self, **changes: Any) -> str:
        return self.issuer.sign(self.issuer.claims(self.clock.at, **changes))

    async def refusal(self, token: str) -> Problem:
        with pytest.raises(Problem) as caught:
            await self.oidc.person_of(token)
        return caught.value


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    async with asyncio.timeout(60):
        async with issuing() as made:
            yield made


@pytest.fixture
async def bench(issuer: Issuer) -> AsyncIterator[Callable[..., Bench]]:
    """Make benches over the guarded client, which is let to this machine."""
    outbound = Outbound(["127.0.0.1"])
    yield lambda **changes: Bench(issuer, outbound, **changes)
    await outbound.close()


async def test_a_good_token_names_a_person_of_a_team(bench: Callable[..., Bench]) -> None:
    """By either kind of key; the scopes are those of all the person's roles in the team."""
    here = bench()
    claims = here.issuer.claims(here.clock.at, roles=["accountant", "editor"], aud=["other", AUDIENCE])
    expected = Person(here.issuer.url, "mara", "reel", frozenset({Scope.GENERATE, Scope.READ, Scope.BILLING}))
    expected = replace(expected, ends_at=claims["exp"] + here.settings.leeway_s)
    assert await here.oidc.person_of(here.issuer.sign(claims)) == expected
    curved = here.issuer.sign(claims, key_of("EC", "curve"), "ES256", typ="at+jwt")
    assert await here.oidc.person_of(curved) == expected
    assert here.issuer.asked == {"description": 1, "keys": 1}, "the keys are kept"


def unsigned(claims: dict[str, Any], **header: Any) -> str:
    """A token with an empty signature under this header."""
    parts = (json.dumps({"kid": "first", **header}).encode(), json.dumps(claims).encode())
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts) + "."


def confused(claims: dict[str, Any]) -> str:
    """Signed with the public key as if it were a shared secret."""
    public = key_of("RSA", "first").as_pem(private=False)
    signed = unsigned(claims, alg="HS256").rstrip(".")
    digest = hmac.new(public, signed.encode(), hashlib.sha256).digest()
    return f"{signed}.{base64.urlsafe_b64encode(digest).rstrip(b'=').decode()}"


def tampered(token: str) -> str:
    head, body, signature = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    claims["roles"] = ["operator"]
    changed = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"{head}.{changed}.{signature}"


ATTACKS: dict[str, Callable[[Bench], str]] = {
    "alg none": lambda b: unsigned(b.issuer.claims(b.clock.at), alg="none"),
    "alg None": lambda b: unsigned(b.issuer.claims(b.clock.at), alg="None"),
    "no alg": lambda b: unsigned(b.issuer.claims(b.clock.at)),
    "HS256 with the public key": lambda b: confused(b.issuer.claims(b.clock.at)),
    "another's key under a known id": lambda b: b.issuer.sign(
        b.issuer.claims(b.clock.at), key_of("RSA", "stranger"), kid="first"
    ),
    "claims that were changed": lambda b: tampered(b.token()),
    "no signature": lambda b: b.token().rpartition(".")[0] + ".",
    "another audience": lambda b: b.token(aud="somebody else"),
    "no audience": lambda b: b.token(aud=None),
    "another issuer": lambda b: b.token(iss="https://evil.test"),
    "no issuer": lambda b: b.token(iss=None),
    "expired": lambda b: b.token(exp=int(b.clock.at) - 31),
    "no end": lambda b: b.token(exp=None),
    "an end that is no number": lambda b: b.token(exp="never"),
    "an endless end": lambda b: b.token(exp=float("inf")),
    "not yet": lambda b: b.token(nbf=int(b.clock.at) + 3600),
    "made in the future": lambda b: b.token(iat=int(b.clock.at) + 3600),
    "nobody": lambda b: b.token(sub=None),
    "a name of none": lambda b: b.token(sub=""),
    "a name that is an object": lambda b: b.token(sub={"a": 1}),
    "a name with a line break": lambda b: b.token(sub="mara\nadmin"),
    "an endless name": lambda b: b.token(sub="m" * 256),
    "an unknown key": lambda b: b.issuer.sign(b.issuer.claims(b.clock.at), key_of("RSA", "stranger")),
    "no key id where there are two": lambda b: b.issuer.sign(b.issuer.claims(b.clock.at), kid=None),
    "a key id that is a list": lambda b: unsigned(b.issuer.claims(b.clock.at), alg="RS256", kid=["first"]),
    "a logout token": lambda b: b.issuer.sign(b.issuer.claims(b.clock.at), typ="logout+jwt"),
    "a huge token": lambda b: b.token(roles=["editor"] * 4000),
    "ES256 with an RSA key": lambda b: b.issuer.sign(
        b.issuer.claims(b.clock.at), key_of("EC", "curve"), "ES256", kid="first"
    ),
    "an algorithm that is not listed": lambda b: b.issuer.sign(b.issuer.claims(b.clock.at), algorithm="RS512"),
    "a header that must be understood": lambda b: unsigned({}, alg="RS256", crit=["x"], x=1),
}


# What the refusal names, where only one thing is wrong with the token.
NAMED = {
    "alg none": "RS256", "HS256 with the public key": "RS256", "another audience": "(aud)", "another issuer": "(iss)",
    "no audience": "not for this service", "expired": "expired", "not yet": "(nbf)", "made in the future": "(iat)",
    "an unknown key": "a key of the issuer", "claims that were changed": "not signed by the issuer",
    "another's key under a known id": "not signed by the issuer", "a huge token": "longer than",
    "no key id where there are two": "a key of the issuer", "a logout token": "not a token of a person",
    "ES256 with an RSA key": "a key of the issuer", "an algorithm that is not listed": "RS256, ES256",
}  # fmt: skip


@pytest.mark.parametrize("name", ATTACKS)
async def test_a_token_that_proves_nothing_is_refused(bench: Callable[..., Bench], name: str) -> None:
    """401 with what is wrong, whatever is wrong; the same part takes a good token before and after."""
    here = bench()
    await here.oidc.person_of(here.token())
    refusal = await here.refusal(ATTACKS[name](here))
    assert isinstance(refusal, Unauthorized)
    assert 'error="invalid_token"' in refusal.headers["WWW-Authenticate"]
    assert NAMED.get(name, "") in refusal.detail
    assert (await here.oidc.person_of(here.token())).subject == "mara"


async def test_no_text_whatsoever_is_a_fault_of_ours(bench: Callable[..., Bench]) -> None:
    """Any three parts, also those that begin as a token does."""
    here = bench()
    good = here.token().split(".")
    part = st.binary(max_size=40).map(lambda data: base64.urlsafe_b64encode(data).decode()) | st.text(max_size=20)
    parts = st.tuples(part | st.just(good[0]), part | st.just(good[1]), part | st.just(good[2]))
    drawn: list[str] = []

    @settings(max_examples=200, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(parts)
    def draw(example: tuple[str, str, str]) -> None:
        drawn.append(".".join(example))

    draw()
    for token in {*drawn} - {".".join(good)}:
        assert isinstance(await here.refusal(token), Unauthorized), token


async def test_a_person_without_a_role_is_known_and_may_nothing(bench: Callable[..., Bench]) -> None:
    """403: the token is good, and nothing in the table fits; a claim of another form is no role."""
    here = bench()
    for roles in (["cook"], None, "", {"editor": True}, [["editor"]], 7):
        assert isinstance(await here.refusal(here.token(roles=roles)), Forbidden)


async def test_a_new_key_is_found_at_once_and_an_old_one_ends(bench: Callable[..., Bench]) -> None:
    """The issuer rotates: the first token of the new key has the keys read again, and what is gone is refused."""
    here = bench()
    await here.oidc.person_of(here.token())
    here.clock.at += REFRESH_EVERY_S
    here.issuer.keys = [key_of("RSA", "second")]
    renewed = here.issuer.sign(here.issuer.claims(here.clock.at), key_of("RSA", "second"))
    assert (await here.oidc.person_of(renewed)).subject == "mara"
    assert isinstance(await here.refusal(here.token()), Unauthorized)
    alone = here.issuer.sign(here.issuer.claims(here.clock.at), key_of("RSA", "second"), kid=None)
    assert (await here.oidc.person_of(alone)).subject == "mara", "one key needs no name"


async def test_strangers_cannot_have_the_issuer_asked_more_than_once_in_ten_seconds(
    bench: Callable[..., Bench],
) -> None:
    """A thousand made-up key ids in a moment are one question."""
    here = bench()
    await here.oidc.person_of(here.token())
    here.clock.at += REFRESH_EVERY_S
    stranger = key_of("RSA", "stranger")
    claims = here.issuer.claims(here.clock.at)
    tokens = [here.issuer.sign(claims, stranger, kid=f"made up {number}") for number in range(50)]
    refusals = await asyncio.gather(*(here.refusal(token) for token in tokens))
    assert {type(one) for one in refusals} == {Unauthorized}
    assert here.issuer.asked["keys"] == 2


async def test_an_issuer_that_is_down_costs_nothing_while_its_keys_are_known(bench: Callable[..., Bench]) -> None:
    """Kept keys go on for a day; then people are told to come again, and are let in when it is back."""
    here = bench()
    await here.oidc.person_of(here.token())
    here.issuer.is_down = True
    for _ in range(3):
        here.clock.at += here.settings.keys_ttl_s
        assert (await here.oidc.person_of(here.token())).subject == "mara"
    assert here.issuer.asked["keys"] == 1
    here.clock.at += STALE_MAX_S
    refusal = await here.refusal(here.token())
    assert (type(refusal), refusal.headers["Retry-After"]) == (Unavailable, "10")
    here.issuer.is_down = False
    here.clock.at += REFRESH_EVERY_S
    assert (await here.oidc.person_of(here.token())).subject == "mara"


@pytest.mark.parametrize(
    "describes",
    [
        {"issuer": "https://evil.test"},
        {"jwks_uri": 7},
        {"jwks_uri": "http://169.254.169.254/latest"},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": "http://127.0.0.1:1/keys"},
        {"jwks_uri": "HOP"},
    ],
)
async def test_an_issuer_that_says_what_no_issuer_says_is_not_believed(
    bench: Callable[..., Bench], describes: dict[str, Any]
) -> None:
    """Another's description, keys nowhere, or where the guard lets nobody: 503, never a fault of ours."""
    here = bench()
    hop = f"{here.issuer.url}/hop"
    here.issuer.describes = {name: hop if value == "HOP" else value for name, value in describes.items()}
    assert isinstance(await here.refusal(here.token()), Unavailable)


async def test_keys_that_prove_nothing_are_left_out(bench: Callable[..., Bench]) -> None:
    """Shared secrets, keys for encryption, short and broken ones, and more than anybody has."""
    here = bench()
    secret = OctKey.import_key(b"a secret of the issuer's that somebody published", {"kid": "shared"})
    first = key_of("RSA", "first").as_dict(private=False)
    short = {**first, "kid": "short", "n": first["n"][:170]}
    here.issuer.published = [
        secret.as_dict(), {**first, "kid": "enc", "use": "enc"}, short, {"kty": "RSA", "kid": "empty"}, {"kty": 7},
        7, None, {**first, "kid": ["a"]},
    ]  # fmt: skip
    assert (await here.oidc.person_of(here.token())).subject == "mara"
    claims = here.issuer.claims(here.clock.at)
    assert isinstance(await here.refusal(here.issuer.sign(claims, secret, "HS256")), Unauthorized)
    assert isinstance(await here.refusal(here.issuer.sign(claims, kid="enc")), Unauthorized)
    assert set(here.oidc._keys) == {"first", "curve"}
    other = bench()
    other.issuer.published = [{**first, "kid": f"k{number}"} for number in range(KEYS_MAX + 5)]
    assert isinstance(await other.refusal(other.token()), Unauthorized)
    assert len(other.oidc._keys) == KEYS_MAX


@given(
    st.recursive(
        st.none() | st.text(max_size=5) | st.integers(), lambda v: st.lists(v) | st.dictionaries(st.text(max_size=5), v)
    )
)
def test_any_claim_is_read_without_a_fault(value: Any) -> None:
    """Roles are words; whatever else stands there is none."""
    for path in ("roles", "a.b", "", "."):
        assert all(isinstance(role, str) for role in roles_in({"roles": value, "a": {"b": value}}, path))


def test_roles_are_read_from_inside_objects_and_from_names_with_dots() -> None:
    """As the common providers write them."""
    assert roles_in({"realm_access": {"roles": ["a", "b"]}}, "realm_access.roles") == {"a", "b"}
    assert roles_in({"https://x.test/roles": ["a"]}, "https://x.test/roles") == {"a"}
    assert roles_in({"scope": "a b"}, "scope") == {"a", "b"}


@given(
    st.frozensets(st.sampled_from("abcd")),
    st.lists(
        st.tuples(st.sampled_from("abcd"), st.sampled_from("xy"), st.sampled_from(list(Scope))), min_size=1, max_size=6
    ),
)
def test_nobody_gets_a_scope_of_a_team_whose_role_they_lack(
    roles: frozenset[str], rows: list[tuple[str, str, Scope]]
) -> None:
    """The first fitting row names the team, and only fitting rows of that team add to it."""
    table = [OidcRoleSection(role=role, team=team, scopes=(scope,)) for role, team, scope in rows]
    found = granted(roles, table)
    fitting = [(team, scope) for role, team, scope in rows if role in roles]
    assert found == (
        (fitting[0][0], frozenset(scope for team, scope in fitting if team == fitting[0][0])) if fitting else None
    )


def test_only_keys_that_both_sides_can_see_sign() -> None:
    """The configuration takes no algorithm with a shared secret, and none at all."""
    for algorithm in ("none", "HS256"):
        with pytest.raises(ValueError, match="algorithms"):
            OidcSection.model_validate(
                {"issuer": "https://x.test", "audience": "a", "roles": ROLES, "algorithms": [algorithm]}
            )
    assert len(RSAKey.generate_key(2048).as_dict(private=False)["n"]) * 6 >= 2048
    assert TOKEN_LENGTH_MAX == 8192


def test_without_the_packages_the_configuration_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not start and says what to install; without people it starts as ever."""
    oidc = {"issuer": "https://x.test", "audience": "a", "roles": ROLES}
    security = {"signing_secret": "a secret of the tests, long enough"}
    monkeypatch.setattr(people, "find_spec", lambda _name: None)
    for section, faults in (({**security, "oidc": oidc}, 1), (security, 0)):
        found = [one for one in relations(Settings.model_validate({"security": section})) if one.path[0] == "security"]
        assert ["vidgate[oidc]" in one.detail for one in found] == [True] * faults


def test_the_page_explains_every_setting_of_people() -> None:
    """Whoever sets it up finds each key of `security.oidc` and of its table of roles."""
    page = (Path(__file__).parents[2] / "docs" / "auth.md").read_text()
    names = {*OidcSection.model_fields, *OidcRoleSection.model_fields}
    assert sorted(name for name in names if f"`{name}`" not in page) == []
