"""Secrets and signed links: what opens a door, what does not, and what is never stored."""

from __future__ import annotations

import json
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, StaticPool, create_engine, select, update

from gateway.ids import Ids
from gateway.keys import Caller, NewKey, create_key, find_caller, hash_key, new_secret
from gateway.links import Links
from gateway.scopes import USUAL
from gateway.store.metadata import metadata
from gateway.store.schema import keys, teams

NOW = 1_700_000_000.0
LINKS = Links("a secret of at least thirty-two bytes", "https://video.example.com/")


class StoppedClock:
    """A clock that shows one time."""

    def now(self) -> float:
        """The one time."""
        return NOW

    async def sleep(self, seconds: float) -> None:
        """Nobody sleeps here."""
        raise AssertionError(seconds)


@pytest.fixture
def connection() -> Iterator[Connection]:
    """A transaction on a fresh database in memory."""
    engine = create_engine("sqlite://", poolclass=StaticPool)
    metadata.create_all(engine, tables=[teams, keys])
    with engine.begin() as opened:
        yield opened
    engine.dispose()


def make(connection: Connection, team: str = "film", expires_at: float | None = None) -> tuple[str, str, str]:
    """A key of a team: key id, team id, secret."""
    return create_key(connection, Ids(StoppedClock()), NewKey(team, "laptop", NOW, expires_at))


def test_a_key_is_shown_once_and_stored_as_a_hash(connection: Connection) -> None:
    """Nothing in the database gives the secret back, beyond the few characters that tell keys apart."""
    key_id, _, secret = make(connection)
    row = connection.execute(select(keys).where(keys.c.id == key_id)).mappings().one()
    assert row["hash"] == hash_key(secret)
    assert secret.startswith(row["prefix"])
    assert len(secret) - len(row["prefix"]) >= 32
    stored = json.dumps([dict(each) for each in connection.execute(select(keys)).mappings()], default=str)
    assert secret not in stored


def test_secrets_are_long_and_never_the_same() -> None:
    """Each is 256 random bits behind a prefix that names what it is."""
    secrets = {new_secret() for _ in range(1_000)}
    assert len(secrets) == 1_000
    assert all(secret.startswith("vg_") and len(secret) == 46 for secret in secrets)


def test_the_secret_finds_its_caller(connection: Connection) -> None:
    """A key leads to its team, with the team's time zone and plan and the key's grants."""
    key_id, team_id, secret = make(connection)
    connection.execute(update(teams).values(plan={"kind": "percent"}, timezone="Europe/Paris"))
    connection.execute(update(keys).values(grants={"admin": True}))
    found = find_caller(connection, secret, NOW)
    assert found == Caller(key_id, team_id, "film", "Europe/Paris", {"kind": "percent"}, {"admin": True}, USUAL)


@given(st.text(max_size=60))
def test_no_other_text_opens_the_door(text: str) -> None:
    """Two texts have one hash only when they are one text; a hash is no key either."""
    secret = "vg_" + "x" * 43
    if text.isprintable() and text != secret:
        assert hash_key(text) != hash_key(secret)
    assert hash_key(hash_key(secret)) != hash_key(secret)


@pytest.mark.parametrize("wrong", ["", "vg_", "prefix", "hash", "case", "blank"])
def test_a_wrong_secret_finds_nobody(connection: Connection, wrong: str) -> None:
    """Parts of a key, its hash, another case or an added blank are unknown."""
    _, _, secret = make(connection)
    presented = {"prefix": secret[:10], "hash": hash_key(secret), "case": secret.swapcase(), "blank": secret + " "}
    assert find_caller(connection, presented.get(wrong, wrong), NOW) is None


def test_an_expired_key_finds_nobody_from_that_second_on(connection: Connection) -> None:
    """The end of a key is exact."""
    _, _, secret = make(connection, expires_at=NOW + 60)
    assert find_caller(connection, secret, NOW + 59.9) is not None
    assert find_caller(connection, secret, NOW + 60) is None


def test_a_revoked_key_finds_nobody_whatever_its_end(connection: Connection) -> None:
    """Revoked is revoked, and the team's other keys go on."""
    key_id, _, secret = make(connection, expires_at=NOW + 60)
    _, _, other = make(connection)
    connection.execute(update(keys).where(keys.c.id == key_id).values(revoked_at=NOW))
    assert find_caller(connection, secret, NOW) is None
    assert find_caller(connection, other, NOW) is not None


def test_a_team_is_made_once(connection: Connection) -> None:
    """A second key for the same name joins the same team; another name is another team."""
    first, second, third = make(connection), make(connection), make(connection, team="news")
    assert first[1] == second[1] != third[1]
    assert len({first[0], second[0], third[0]}) == 3


def test_ids_tell_their_kind_sort_by_time_and_are_unguessable() -> None:
    """The kind stands first, then the time, then eighty random bits."""

    class Ticking(StoppedClock):
        at = NOW

        def now(self) -> float:
            self.at += 1.0
            return self.at

    ids = Ids(Ticking())
    made = [ids.new("job") for _ in range(100)]
    assert made == sorted(made)
    assert all(each.startswith("job_") and len(each) == 4 + 12 + 20 for each in made)
    assert len({each[-20:] for each in made}) == 100


def test_an_input_link_carries_its_own_permission() -> None:
    """A vendor needs no key: name, end and signature stand in the link, and just those verify."""
    parts = urlsplit(LINKS.input_url("abc.png", NOW + 0.9))
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    assert f"{parts.scheme}://{parts.netloc}{parts.path}" == "https://video.example.com/inputs/abc.png"
    assert query["expires"] == str(int(NOW))
    assert LINKS.verify(query["signature"], "input", "abc.png", int(NOW))
    assert not LINKS.verify(query["signature"], "input", "abd.png", int(NOW))
    assert not LINKS.verify(query["signature"], "input", "abc.png", int(NOW) + 1)


def test_a_callback_address_is_unguessable_and_its_own() -> None:
    """The address of one attempt verifies for that attempt alone."""
    url = LINKS.callback_url("att_1")
    signature = url.rsplit("/", 1)[1]
    assert url.startswith("https://video.example.com/callbacks/att_1/")
    assert len(signature) == 32
    assert LINKS.verify(signature, "callback", "att_1")
    assert not LINKS.verify(signature, "callback", "att_2")
    assert not Links("another secret of thirty-two bytes..", "https://x").verify(signature, "callback", "att_1")


PARTS = st.lists(st.text(max_size=8) | st.integers(), min_size=1, max_size=4)


@given(PARTS, PARTS)
def test_different_parts_never_share_a_signature(one: list[object], other: list[object]) -> None:
    """Wherever one part ends and the next begins, a signature is good for one list of parts only."""
    same = [str(part) for part in one] == [str(part) for part in other]
    assert LINKS.verify(LINKS.sign(*one), *other) is same


def test_a_separator_inside_a_part_forges_nothing() -> None:
    """A line break in a name does not turn one link into another."""
    assert LINKS.sign("a\nb", "c") != LINKS.sign("a", "b\nc") != LINKS.sign("a", "b", "c")
    assert LINKS.sign('a", "b') != LINKS.sign("a", "b")


@given(st.text(max_size=40))
def test_no_other_text_is_a_signature(text: str) -> None:
    """Wrong signatures of any length and script are refused without an error."""
    right = LINKS.sign("input", "a")
    assert LINKS.verify(text, "input", "a") is (text == right)
    assert not LINKS.verify(right[:-1], "input", "a")
    assert not LINKS.verify(right + "0", "input", "a")
