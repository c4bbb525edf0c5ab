"""A vendor's own list of charges, read from JSON rows or CSV: who charged what, when, under which request id.

Columns are found by any of their known names, so that a vendor's export and the documented CSV form
(`request_id,at,amount_usd,status`) read alike. A row without a charge is left out, one with a charge is taken whatever
became of the render; a refund is refused, because it is booked by hand. A row that repeats a request id with the same
amount is one charge, as vendors repeat a row for every file of a result (WIRE 1.7).
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from gateway.money.amounts import AmountError, decimal_usd, nearest_micros, require_micros

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "request_id": ("request_id", "id", "job_id"),
    "amount_usd": ("amount_usd", "credits_deduction", "cost", "amount"),
    "amount_micros": ("amount_micros",),
    "at": ("at", "created_at", "model_created", "timestamp", "time", "date"),
    "status": ("status", "model_status"),
}
DIGITS_MAX = 18
LIST_FIELDS = ("rows", "data", "charges", "requests", "history", "results", "items")
# A number below is no unix time but a date without its dashes, such as 20261001.
EPOCH_LEAST_S = 10**9
# Renders of which a list may leave the amount open.
UNBILLED_STATUSES = frozenset({"failed", "pending", "canceled", "cancelled", "error", "queued", "processing"})


class UsageFileError(ValueError):
    """The file cannot be read: the sentence names the row and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class VendorCharge:
    """One charge on a vendor's list. `at` is unix seconds."""

    provider: str
    request_id: str
    amount_micros: int
    at: float


def read_usage(text: str, provider: str) -> list[VendorCharge]:
    """Read a usage file, JSON when it begins like it and CSV else, in the order of the file. Raises UsageFileError."""
    rows = _json_rows(text) if text.lstrip()[:1] in {"[", "{"} else _csv_rows(text)
    charges: dict[str, VendorCharge] = {}
    for number, row in enumerate(rows, start=1):
        charge = _charge(row, provider, number)
        if charge is None:
            continue
        before = charges.setdefault(charge.request_id, charge)
        if before.amount_micros != charge.amount_micros:
            raise UsageFileError(f"row {number}: {charge.request_id} stands there twice with different amounts")
    return list(charges.values())


def _json_rows(text: str) -> Sequence[Mapping[str, Any]]:
    try:
        # Decimal keeps a price such as 0.1659 as it is written.
        data = json.loads(text, parse_float=Decimal)
    except (ValueError, ArithmeticError, RecursionError) as error:
        raise UsageFileError(f"not JSON: {error}") from error
    if isinstance(data, dict):
        data = next((data[name] for name in LIST_FIELDS if isinstance(data.get(name), list)), None)
    if not isinstance(data, list) or not all(isinstance(row, dict) for row in data):
        raise UsageFileError(f"not a list of rows, alone or under one of: {', '.join(LIST_FIELDS)}")
    return data


def _csv_rows(text: str) -> Iterable[Mapping[str, Any]]:
    reader = csv.DictReader(io.StringIO(text.removeprefix("\ufeff")), strict=True)
    try:
        if reader.fieldnames is None:
            raise UsageFileError("the file is empty")
        yield from reader
    except csv.Error as error:
        raise UsageFileError(f"line {reader.line_num}: {error}") from error


def _charge(row: Mapping[str, Any], provider: str, number: int) -> VendorCharge | None:
    amount_micros = _amount(row, number)
    if amount_micros == 0:
        return None
    request_id = _find(row, "request_id")
    if request_id is None or str(request_id).strip() == "":
        raise UsageFileError(f"row {number}: a charge without a request id")
    return VendorCharge(provider, str(request_id).strip(), amount_micros, _instant(row, number))


def _amount(row: Mapping[str, Any], number: int) -> int:
    micros, usd = _find(row, "amount_micros"), _find(row, "amount_usd")
    if micros is None and usd is None and str(_find(row, "status")).lower() in UNBILLED_STATUSES:
        return 0
    if micros is None and usd is None:
        raise UsageFileError(f"row {number}: no amount; name the column one of {', '.join(COLUMNS['amount_usd'])}")
    if str(usd if micros is None else micros).strip().startswith("-"):
        raise UsageFileError(f"row {number}: a refund; leave the row out and book it as a correction")
    try:
        if micros is not None:
            return require_micros(_whole(str(micros).strip()))
        return nearest_micros(decimal_usd(str(usd).strip(), "amount"))
    except AmountError as error:
        raise UsageFileError(f"row {number}: {error}") from error


def _whole(text: str) -> int | str:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= DIGITS_MAX else text


def _instant(row: Mapping[str, Any], number: int) -> float:
    value = _find(row, "at")
    text = str(value).strip() if value is not None else ""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not seconds >= EPOCH_LEAST_S:
        seconds = _iso(text, number)
    if not 0 <= seconds <= 10**11:
        raise UsageFileError(f"row {number}: {text!r} is not a time")
    return seconds


def _iso(text: str, number: int) -> float:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageFileError(f"row {number}: {text!r} is not a time") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _find(row: Mapping[str, Any], column: str) -> Any | None:
    return next((row[name] for name in COLUMNS[column] if not _is_empty(row.get(name))), None)


def _is_empty(value: Any) -> bool:
    return value is None or value == ""
