"""Segmind: Stable Video Diffusion, MotionCtrl and SSD-1B behind one key.

Read in this order: `catalogue` (what each route takes), `adapter` (how it is called), `outcomes` (what a reply means),
`reading` (values), `account` and `history` (side pages), `plugin` (settings). `simulator` is the vendor, simulated.

What nobody could ask the vendor yet (WIRE 8) is decided in one place each, with a switch of the simulator beside it:

    U1, U2  form, container and key of a result     reading.looks_like_media, reading.RESULT_FIELDS
    U3      form of the rate limit's reset          reading.RATE_RESET_HEADER, reading.moment
    U4      a call that the gateway cut off         outcomes.AMBIGUOUS, Route.ambiguous_billing
    U5      wording of the four refusals under 406  outcomes.FRAGMENTS
    U6      which fields a v2 result has            reading.result_files, reading.body_report
    U7      the poll_url                            not used: status and result pages are enough
    U8      rates and concurrency                   settings.requests_per_minute, settings.concurrency_max
    U9      how parameters change the price         Capability.affects_price
    U10     MotionCtrl's seed -1 and file           catalogue.MOTIONCTRL
    U11     data URIs and redirects in `image`      catalogue.ENDPOINTS, adapter.IMAGE_PREFIX
    U18     cancelling                              not offered
    -       the page of the request history         history.LIST_FIELDS, history.TIME_FIELDS
"""

from providers.segmind.plugin import PLUGIN

__all__ = ["PLUGIN"]
