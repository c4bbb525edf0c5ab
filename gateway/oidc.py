"""OpenID Connect: tokens of one issuer, checked against its published keys.

The issuer's description and keys are read through the guarded client (outbound.py), kept, and read again by time and
for a token whose key is not known, at most once in ten seconds whatever strangers send. An issuer that is down costs
nothing while its keys are younger than a day; without keys people are told to come again, and keys of teams go on.

Only signatures with public keys are accepted, by a list of algorithms: never `none`, never a shared secret.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import structlog
from authlib.oidc.discovery import OpenIDProviderMetadata, get_well_known_url
from joserfc import jwt
from joserfc.errors import ExpiredTokenError, JoseError
from joserfc.jwk import ECKey, JWKRegistry, Key, OKPKey, RSAKey
from joserfc.jws import extract_compact
from joserfc.jwt import JWTClaimsRegistry

from gateway.clock import Clock
from gateway.outbound import FetchLimits, Outbound, OutboundError
from gateway.people import Person, granted, roles_in
from gateway.problems import Forbidden, Unauthorized, Unavailable
from gateway.settings_edge import OidcSection

log = structlog.get_logger()

LIMITS = FetchLimits(bytes_max=256 * 1024, timeout_s=5.0)
REFRESH_EVERY_S = 10.0
STALE_MAX_S = 86_400.0
KEYS_MAX = 64
RSA_BITS_MIN = 2048
TOKEN_LENGTH_MAX = 8192
SUBJECT_LENGTH_MAX = 255
TYPES = frozenset({"jwt", "at+jwt", "application/at+jwt"})
KEY_TYPES = {"R": "RSA", "P": "RSA", "E": "EC"}
CHALLENGE = {"WWW-Authenticate": 'Bearer realm="vidgate", error="invalid_token"'}
# What the libraries raise for bytes that are no token.
MALFORMED = (JoseError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError)


class _IssuerError(Exception):
    """The issuer does not answer, or not with what an issuer says."""


class Oidc:
    """The people of one issuer."""

    def __init__(self, settings: OidcSection, outbound: Outbound, clock: Clock) -> None:
        self._settings = settings
        self._outbound = outbound
        self._clock = clock
        self._keys: dict[str | None, Key] = {}
        self._read_at = -STALE_MAX_S
        self._asked_at = -REFRESH_EVERY_S
        self._turn = asyncio.Lock()

    async def person_of(self, token: str) -> Person:
        """The person of a token. Raises Unauthorized, Forbidden for one without a role here, and Unavailable."""
        claims = await self._claims(token)
        subject = claims["sub"]
        if not 0 < len(subject) <= SUBJECT_LENGTH_MAX or not subject.isprintable():
            raise _refused("this token names nobody (sub)")
        found = granted(roles_in(claims, self._settings.roles_claim), self._settings.roles)
        if found is None:
            raise Forbidden(f"none of your roles ({self._settings.roles_claim}) opens anything here")
        return Person(self._settings.issuer, subject, *found, ends_at=claims["exp"] + self._settings.leeway_s)

    async def _claims(self, token: str) -> Mapping[str, Any]:
        settings = self._settings
        if len(token) > TOKEN_LENGTH_MAX:
            raise _refused(f"this token is longer than {TOKEN_LENGTH_MAX} characters")
        algorithm, key_id = _header(token, settings.algorithms)
        key = await self._key(algorithm, key_id)
        try:
            claims = jwt.decode(token, key, algorithms=[algorithm]).claims
        except MALFORMED:
            raise _refused("this token is not signed by the issuer") from None
        registry = JWTClaimsRegistry(
            now=int(self._clock.now()),
            leeway=settings.leeway_s,
            iss={"essential": True, "value": settings.issuer},
            aud={"essential": True, "value": settings.audience},
            exp={"essential": True},
            sub={"essential": True},
        )
        try:
            registry.validate(claims)
        except ExpiredTokenError:
            raise _refused("this token has expired") from None
        except MALFORMED as error:
            claim = getattr(error, "claim", None)
            raise _refused(f"this token is not for this service, or not yet{f' ({claim})' if claim else ''}") from None
        return claims

    async def _key(self, algorithm: str, key_id: str | None) -> Key:
        """The issuer's key of this id, of a kind that fits the algorithm."""
        await self._refresh(wanted=key_id)
        if not self._keys:
            raise Unavailable(
                "the identity provider's keys cannot be read now; keys of teams go on",
                headers={"Retry-After": f"{REFRESH_EVERY_S:.0f}"},
            )
        key = self._keys.get(key_id)
        if key_id is None and len(self._keys) == 1:
            key = next(iter(self._keys.values()))
        if key is None or not _fits(key, algorithm):
            raise _refused("this token is not signed by a key of the issuer")
        return key

    async def _refresh(self, wanted: str | None) -> None:
        """Read the issuer's keys where that is due: they are old, or this one is not among them."""
        now = self._clock.now()
        is_due = now - self._read_at >= self._settings.keys_ttl_s or (wanted is not None and wanted not in self._keys)
        if not is_due or now - self._asked_at < REFRESH_EVERY_S or (self._turn.locked() and wanted in self._keys):
            return
        async with self._turn:
            if self._clock.now() - self._asked_at < REFRESH_EVERY_S:
                return  # another request has asked meanwhile
            try:
                self._keys = await self._published()
                self._read_at = self._clock.now()
            except (_IssuerError, OutboundError) as error:
                log.warning("oidc.issuer_unavailable", issuer=self._settings.issuer, detail=str(error))
                if self._clock.now() - self._read_at > STALE_MAX_S:
                    self._keys = {}
            finally:
                self._asked_at = self._clock.now()

    async def _published(self) -> dict[str | None, Key]:
        described = OpenIDProviderMetadata(
            await self._document(get_well_known_url(self._settings.issuer, external=True))
        )
        if described.get("issuer") != self._settings.issuer:
            raise _IssuerError("its description is another issuer's")
        address = described.get("jwks_uri")
        if not isinstance(address, str):
            raise _IssuerError("its description names no keys (jwks_uri)")
        published = (await self._document(address)).get("keys")
        keys = [key for one in published[:KEYS_MAX] if (key := _usable(one))] if isinstance(published, list) else []
        if not keys:
            raise _IssuerError("it publishes no key that can check a signature")
        return {key.kid: key for key in keys}

    async def _document(self, url: str) -> dict[str, Any]:
        fetched = await self._outbound.fetch(url, LIMITS)
        try:
            value = json.loads(fetched.data)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise _IssuerError("it answered with what is no JSON object")
        return value


def _header(token: str, algorithms: tuple[str, ...]) -> tuple[str, str | None]:
    """The algorithm and the key's id that a token names, before anything is believed of it."""
    try:
        header = extract_compact(token.encode("ascii")).headers()
    except MALFORMED:
        raise _refused("this is not a token") from None
    algorithm, key_id, kind = header.get("alg"), header.get("kid"), header.get("typ", "JWT")
    if algorithm not in algorithms:
        raise _refused(f"this token is not signed as it must be: {', '.join(algorithms)}")
    if not isinstance(kind, str) or kind.lower() not in TYPES or not isinstance(key_id, str | None):
        raise _refused("this is not a token of a person")
    return str(algorithm), key_id


def _usable(published: Any) -> Key | None:
    """A published key, where it can check signatures: public, asymmetric and of a fair size."""
    try:
        if published.get("use", "sig") != "sig" or published["kty"] not in {"RSA", "EC", "OKP"}:
            return None
        if published["kty"] == "RSA" and len(published["n"]) * 6 < RSA_BITS_MIN:  # base64: six bits a letter
            return None
        key = JWKRegistry.import_key({name: value for name, value in published.items() if name != "d"})
    except MALFORMED:
        return None
    return key if isinstance(key, RSAKey | ECKey | OKPKey) else None


def _fits(key: Key, algorithm: str) -> bool:
    kind = "OKP" if algorithm == "EdDSA" else KEY_TYPES[algorithm[0]]
    return key.key_type == kind and key.as_dict().get("alg", algorithm) == algorithm


def _refused(detail: str) -> Unauthorized:
    return Unauthorized(detail, headers=CHALLENGE)
