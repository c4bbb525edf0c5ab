"""What the engine works with, in one value; chance and time are passed in like everything else."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from gateway.bus.contract import Bus
from gateway.clock import Clock
from gateway.delivery import Delivery
from gateway.fleet import Fleet
from gateway.ids import Ids
from gateway.inputs import Inputs
from gateway.planning import Planner
from gateway.settings import Settings
from gateway.store.database import Store
from gateway.telemetry.meter import Meter


@dataclass(slots=True)
class Parts:
    """The service's parts, composed in app.py; a reload puts new `settings`, `planner` and `inputs` in place."""

    settings: Settings
    store: Store
    bus: Bus
    fleet: Fleet
    planner: Planner
    inputs: Inputs
    delivery: Delivery
    clock: Clock
    random: Random
    ids: Ids
    meter: Meter
