"""Amounts of money: integer micro-USD, and the one way in from decimal dollars. Floats are refused."""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_HALF_EVEN, Decimal, InvalidOperation

MICROS_PER_USD = 1_000_000
AMOUNT_MAX_MICROS = 10**15  # a thousand million dollars: anything above is a mistake, and sums stay far inside 64 bits
AMOUNT_MAX_USD = AMOUNT_MAX_MICROS // MICROS_PER_USD


class AmountError(ValueError):
    """Not an amount of money: negative, not a whole number of micro-USD, not a number, or too large."""


def require_micros(value: object, name: str = "amount_micros") -> int:
    """Return the value when it is a whole number of micro-USD from 0 to `AMOUNT_MAX_MICROS`; raise AmountError else."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise AmountError(f"{name} must be an integer of micro-USD, not {value!r}")
    if not 0 <= value <= AMOUNT_MAX_MICROS:
        raise AmountError(f"{name} must lie between 0 and {AMOUNT_MAX_MICROS}, not {value}")
    return value


def decimal_usd(text: str | int | Decimal, name: str = "amount_usd", most_usd: int = AMOUNT_MAX_USD) -> Decimal:
    """Read non-negative dollars exactly; raise AmountError for floats, signs, NaN, infinities and huge amounts."""
    if isinstance(text, bool) or not isinstance(text, str | int | Decimal):
        raise AmountError(f"{name} must be written as a decimal string, not {text!r}")
    try:
        usd = Decimal(text)
    except InvalidOperation:
        raise AmountError(f"{name} is not a number: {text!r}") from None
    if not usd.is_finite() or usd < 0 or usd > most_usd:
        raise AmountError(f"{name} must lie between 0 and {most_usd} dollars, not {text}")
    return usd


def micros_from_usd(text: str | int | Decimal, name: str = "amount_usd") -> int:
    """Turn dollars into micro-USD exactly; raise AmountError when a fraction of a micro would be lost."""
    usd = decimal_usd(text, name)
    micros = nearest_micros(usd)
    # Compared as dollars: a comparison is exact, a product of many digits is rounded.
    if Decimal(micros) / MICROS_PER_USD != usd:
        raise AmountError(f"{name} has a fraction of a micro-USD: {text}")
    return micros


def ceil_micros(usd: Decimal) -> int:
    """Dollars to micro-USD, rounded up: a price never loses a fraction."""
    return int((usd * MICROS_PER_USD).to_integral_value(ROUND_CEILING))


def nearest_micros(usd: Decimal) -> int:
    """Dollars to the nearest micro-USD, for figures that vendors report with more digits."""
    return int((usd * MICROS_PER_USD).to_integral_value(ROUND_HALF_EVEN))


def usd_text(micros: int) -> str:
    """Micro-USD as dollars with two to six decimals, such as `0.1659` or `-3.00`."""
    sign = "-" if micros < 0 else ""
    whole, fraction = divmod(abs(micros), MICROS_PER_USD)
    decimals = f"{fraction:06d}".rstrip("0").ljust(2, "0")
    return f"{sign}{whole}.{decimals}"
