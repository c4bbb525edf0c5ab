"""A small identity provider: it describes itself, publishes keys over real HTTP, and signs whatever it is asked to."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from providers.serving import serve

AUDIENCE = "vidgate"
ROLES = [
    {"role": "editor", "team": "reel", "scopes": ["generate", "read"]},
    {"role": "accountant", "team": "reel", "scopes": ["billing"]},
    {"role": "operator", "team": "ops", "scopes": ["admin"]},
    {"role": "ghost", "team": "nobody's", "scopes": ["read"]},
]
_made: dict[str, RSAKey | ECKey] = {}


def key_of(kind: str, name: str) -> RSAKey | ECKey:
    """A key of this kind and id, made once a run: making RSA keys takes longer than the tests."""
    if name not in _made:
        options: Any = {"kid": name, "use": "sig"}
        _made[name] = RSAKey.generate_key(2048, options) if kind == "RSA" else ECKey.generate_key("P-256", options)
    return _made[name]


@dataclass
class Issuer:
    """What it publishes and says of itself; `is_down` has it answer 503. `asked` counts the requests by path."""

    url: str = ""
    keys: list[Any] = field(default_factory=lambda: [key_of("RSA", "first"), key_of("EC", "curve")])
    is_down: bool = False
    describes: dict[str, Any] = field(default_factory=dict)
    published: list[dict[str, Any]] = field(default_factory=list)
    asked: Counter[str] = field(default_factory=Counter)

    def app(self) -> Starlette:
        """The provider's addresses."""
        return Starlette(
            routes=[
                Route("/.well-known/openid-configuration", self._description),
                Route("/keys", self._keys),
                Route("/hop", self._hop),
            ]
        )

    async def _description(self, request: Request) -> Response:
        self.asked["description"] += 1
        if self.is_down:
            return Response(status_code=503)
        return JSONResponse({"issuer": self.url, "jwks_uri": f"{self.url}/keys", **self.describes})

    async def _keys(self, request: Request) -> Response:
        self.asked["keys"] += 1
        if self.is_down:
            return Response(status_code=503)
        public = [key.as_dict(private=False) for key in self.keys]
        return JSONResponse({"keys": [*self.published, *public]})

    async def _hop(self, request: Request) -> Response:
        return Response(status_code=302, headers={"location": "http://169.254.169.254/keys"})

    def claims(self, at: float, **changes: Any) -> dict[str, Any]:
        """The claims of a good token, with changes; None leaves a claim out."""
        usual = {
            "iss": self.url, "aud": AUDIENCE, "sub": "mara", "iat": int(at), "exp": int(at) + 600, "roles": ["editor"],
        }  # fmt: skip
        return {name: value for name, value in (usual | changes).items() if value is not None}

    def sign(self, claims: dict[str, Any], key: Any = None, algorithm: str = "RS256", **header: Any) -> str:
        """A token, signed with one of the keys."""
        key = key or key_of("RSA", "first")
        named = {"alg": algorithm, "kid": key.kid, **header}
        named = {name: value for name, value in named.items() if value is not None}
        return jwt.encode(named, claims, key, algorithms=[algorithm])


@asynccontextmanager
async def issuing() -> AsyncIterator[Issuer]:
    """An identity provider on loopback for the length of the block."""
    issuer = Issuer()
    async with serve(issuer.app()) as url:
        issuer.url = url
        yield issuer
