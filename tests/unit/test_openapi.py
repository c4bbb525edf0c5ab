"""The description of the API: valid, complete, and in agreement with what the reader of requests takes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from gateway.api.openapi import document
from gateway.api.openapi.generation import key_schema
from gateway.app import ROUTES
from gateway.money.idempotency import InvalidKeyError, parse_key
from gateway.normalise import REQUEST_FIELDS, read_parameters
from gateway.problems import Problem
from policies.fit import describe
from providers.vocabulary import IMAGE_ALIASES, PARAMETERS, Media, Parameter, Scalar, parameters_for
from tests.unit.policies.tables import BUILTIN, written_for

DOCUMENT = document(BUILTIN)
SCHEMAS: dict[str, dict[str, Any]] = DOCUMENT["components"]["schemas"]
PICTURE = "https://a.test/b.png"
REQUESTS: dict[Media, str] = {"video": "VideoRequest", "image": "ImageRequest"}
# Addresses that vidgate hands out whole: they are signed, so they need no key.
HANDED_OUT = {"/inputs/{name}", "/results/{job_id}/{number}", "/callbacks/{attempt_id}/{token}"}
MEDIA: st.SearchStrategy[Media] = st.sampled_from(list(REQUESTS))


def validator(media: Media) -> Draft202012Validator:
    """The schema of a request, with the shared ones at hand."""
    reference = {"$ref": f"#/components/schemas/{REQUESTS[media]}", "components": DOCUMENT["components"]}
    return Draft202012Validator(reference)


VALIDATORS = {media: validator(media) for media in REQUESTS}


def test_the_document_is_valid_openapi() -> None:
    """A generator of clients can read it, whichever routes a deployment has."""
    for routes in (BUILTIN, BUILTIN[:1], ()):
        validate(document(routes))


def test_every_address_is_described() -> None:
    """Paths and methods are those of the application, no more and no less."""
    served = {(route.path, method.lower()) for route in ROUTES for method in (route.methods or set()) - {"HEAD"}}
    verbs = {"get", "post", "put", "patch", "delete"}
    described = {(path, verb) for path, item in DOCUMENT["paths"].items() for verb in item if verb in verbs}
    assert described == served


def test_what_needs_no_key_says_so() -> None:
    """Health, the description and signed links are open, everything else wants one of the two forms of a key."""
    assert DOCUMENT["security"] == [{"bearer": []}, {"apiKey": []}]
    operations = {path: list(item.values()) for path, item in DOCUMENT["paths"].items()}
    keyless = {path for path, found in operations.items() if any(one["security"] == [] for one in found)}
    assert {"/healthz", "/readyz", "/openapi.json", "/metrics", "/docs", "/docs/{asset}"} | HANDED_OUT == keyless


@pytest.mark.parametrize("media", REQUESTS)
def test_a_request_may_carry_every_parameter_and_alias_and_nothing_else(media: Media) -> None:
    """The schema knows the names that the reader knows."""
    names = {name for one in parameters_for(media) for name in (one.name, *one.aliases)}
    schema = SCHEMAS[REQUESTS[media]]
    assert set(schema["properties"]) == names | set(REQUEST_FIELDS) | set(IMAGE_ALIASES)
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize("parameter", PARAMETERS, ids=lambda parameter: parameter.name)
def test_each_parameter_tells_what_each_route_takes(parameter: Parameter) -> None:
    """The canonical range stands in the schema, and beside it the routes with theirs."""
    for media in parameter.media:
        schema = SCHEMAS[REQUESTS[media]]["properties"][parameter.name]
        rows = {r.name: r.capability(parameter.name) for r in BUILTIN if r.media == media}
        assert schema["x-routes"] == {name: describe(row) for name, row in rows.items() if row is not None}
        assert schema.get("minimum") == parameter.minimum
        assert schema.get("maximum") == parameter.maximum
        words = schema["anyOf"][0].get("enum", ()) if "anyOf" in schema else ()
        assert tuple(words) == parameter.choices
        assert schema.get("default") == parameter.default


@given(MEDIA.flatmap(lambda media: st.tuples(st.just(media), written_for(media))))
def test_every_canonical_request_fits_the_schema(order: tuple[Media, dict[str, Scalar]]) -> None:
    """Nothing that the reader takes in canonical form is refused by a client that validates first."""
    media, written = order
    assert list(VALIDATORS[media].iter_errors({"image": PICTURE, **written})) == []


@given(MEDIA, st.sampled_from(PARAMETERS), st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text())
def test_a_value_that_fits_the_schema_is_read(media: Media, parameter: Parameter, value: Any) -> None:
    """A client that validates by the schema is not refused by the reader for a single value."""
    if media not in parameter.media or parameter.name in {"width", "height"}:
        return
    if VALIDATORS[media].is_valid({"image": PICTURE, parameter.name: value}) and not is_unwritable(parameter, value):
        try:
            read_parameters({parameter.name: value}, media, BUILTIN)
        except Problem as problem:
            pytest.fail(problem.detail)


def is_unwritable(parameter: Parameter, value: Any) -> bool:
    """Control characters, what UTF-8 cannot spell, and bounds of spelled numbers: the schema does not say so."""
    if parameter.kind in {"integer", "number"} and isinstance(value, str):
        return True
    if parameter.kind != "text":
        return False
    refused = ("\ud800" <= c <= "\udfff" or (c < " " and c not in "\t\n\r") for c in value)
    return any(refused)


def test_an_unknown_field_does_not_fit() -> None:
    """A validating client finds the typing mistake as well."""
    assert VALIDATORS["video"].is_valid({"image": PICTURE, "frames": 14})
    assert not VALIDATORS["video"].is_valid({"image": PICTURE, "framse": 14})


@given(st.text('!"#\\\\]~a b\x7f', max_size=12) | st.integers(1, 300).map(lambda n: "k" * n))
def test_an_idempotency_key_is_described_as_it_is_read(written: str) -> None:
    """Bare or quoted, as long as it may be; blanks around it are the header's, not the key's."""
    try:
        is_read = bool(parse_key(written))
    except InvalidKeyError:
        is_read = False
    assert Draft202012Validator(key_schema(255)).is_valid(written.strip()) is is_read
