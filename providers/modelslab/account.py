"""What ModelsLab's account pages say: the wallet, the queue, an uploaded picture, and what a wallet can prove.

The vendor keeps no list of jobs that can be asked for, so that the wallet and the queue are all the evidence there is
for a submit whose reply was lost (WIRE 2.1, 2.6, U14).
"""

from __future__ import annotations

from decimal import ROUND_FLOOR, Decimal, InvalidOperation

from providers.contract import Balance, LookupOutcome, NoEvidence, NotFound, RemoteFile
from providers.modelslab.replies import INTEGER_MAX, read_body
from providers.transport import Reply

BALANCE_USD_MAX = Decimal(10**12)
# The vendor stores uploaded pictures of up to 5 MB, for 24 hours (its page on base64_to_url).
UPLOAD_BYTES_MAX = 5_000_000


def read_balance(reply: Reply) -> Balance | None:
    """The wallet in micro-USD, or None where it cannot be read or is in another currency (WIRE 2.1)."""
    data = reply.object().get("data")
    if not isinstance(data, dict) or data.get("currency", "USD") != "USD":
        return None
    amount = data.get("balance")
    if isinstance(amount, bool) or not isinstance(amount, int | float | str):
        return None
    try:
        usd = Decimal(str(amount))
    except (InvalidOperation, ValueError):
        return None
    if not usd.is_finite() or abs(usd) > BALANCE_USD_MAX:
        return None
    return Balance(int((usd * 1_000_000).to_integral_value(ROUND_FLOOR)))


def read_processing_count(reply: Reply) -> int | None:
    """How many requests of the account are at work, or None where it cannot be read (WIRE 2.1)."""
    count = reply.object().get("processing_count")
    if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= INTEGER_MAX:
        return None
    return count


def read_upload(reply: Reply, secret: str) -> str | None:
    """The link to an uploaded picture, or None."""
    body = read_body(reply, secret)
    links = [file.url for file in body.files if isinstance(file, RemoteFile)]
    return links[0] if body.state == "success" and links else None


def wallet_evidence(
    *,
    before_micros: int | None,
    after_micros: int | None,
    charged_at_submit: bool | None,
    processing_count: int | None,
) -> LookupOutcome:
    """What the wallet before and after an ambiguous submit proves.

    A wallet that fell says that something was charged, not what. One that did not move clears the submit only where it
    is known when the vendor charges: at the submit; or at success, and then only with nothing at work any more.
    """
    if before_micros is None or after_micros is None:
        return NoEvidence("the wallet could not be read before and after the submit")
    if after_micros < before_micros:
        fell = (before_micros - after_micros) / 1_000_000
        return NoEvidence(f"charge seen: the wallet fell by ${fell:.6f}, and nothing says for which request")
    if after_micros > before_micros:
        return NoEvidence("the wallet was topped up meanwhile")
    if charged_at_submit:
        return NotFound("no charge seen, and this account is charged when a request is taken")
    if charged_at_submit is None:
        return NoEvidence("no charge seen, but it is not known when this vendor charges (charged_at_submit)")
    if processing_count == 0:
        return NotFound("no charge seen and nothing is being processed")
    return NoEvidence("no charge seen yet, and something may still be processing")
