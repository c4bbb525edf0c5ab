"""The vendor's books: accounts with their wallet and queue, and the jobs with what each will come to."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field

from providers.modelslab.simulator.orders import Order, RefusalError
from providers.modelslab.simulator.switches import ModelsLabSwitches
from providers.simulation import Charge, Sandbox

FIRST_ID = 146
# A sandbox that runs for weeks forgets its oldest jobs beyond this number.
JOBS_MAX = 5_000


@dataclass(slots=True)
class Job:
    """One accepted request. It is done when the clock says so; `outcome` is settled from the start."""

    id: int
    key: str
    order: Order
    picture: bytes
    outcome: str
    seed: int
    prefix: str
    price_micros: int
    accepted_at: float
    started_at: float
    done_at: float
    charged: bool = False

    @property
    def extension(self) -> str:
        """The extension of the delivered file."""
        return "gif" if self.order.output_type == "gif" else "mp4"


@dataclass(slots=True)
class Wallet:
    """What a key was charged so far, and when it last asked for its queue; money is micro-USD."""

    spent_micros: int = 0
    counts_at: list[float] = field(default_factory=list)


class Books:
    """Everything the simulated vendor knows."""

    def __init__(self, sandbox: Sandbox[ModelsLabSwitches]) -> None:
        self._sandbox = sandbox
        self._wallets: dict[str, Wallet] = {}
        self._jobs: dict[int, Job] = {}
        self._files: dict[str, Job] = {}
        self._open: dict[int, Job] = {}
        self._next_id = FIRST_ID

    def wallet(self, key: str) -> Wallet:
        """The wallet of a key."""
        return self._wallets.setdefault(key, Wallet())

    def balance_micros(self, key: str) -> int:
        """What is left in the wallet of a key."""
        return self._sandbox.switches.credit_micros - self.wallet(key).spent_micros

    def active(self, key: str) -> list[Job]:
        """The jobs of a key that are not done."""
        now = self._sandbox.clock.now()
        return [job for job in self._open.values() if job.key == key and job.done_at > now]

    def accept(self, key: str, order: Order, picture: bytes) -> Job:
        """Queue a job, first in first out. Raises RefusalError when the queue is full or the wallet too light."""
        switches, clock, random = self._sandbox.switches, self._sandbox.clock, self._sandbox.random
        active = self.active(key)
        if len(active) >= switches.queue_max:
            raise RefusalError(
                429,
                f"Rate limit exceeded. Maximum {switches.queue_max} queued requests allowed.",
                retry_after_s=switches.retry_after_s,
            )
        if self.balance_micros(key) < switches.price_micros:
            raise RefusalError(402, "Insufficient credits. Please add credits.")
        now = clock.now()
        ends = sorted(job.done_at for job in active)
        started_at = ends[-switches.workers] if len(ends) >= switches.workers else now
        job = Job(
            id=self._next_id,
            key=key,
            order=order,
            picture=picture,
            outcome=switches.outcome,
            seed=random.randrange(2**31, 2**32),
            prefix=str(uuid.UUID(int=random.getrandbits(128), version=4)),
            price_micros=switches.price_micros,
            accepted_at=now,
            started_at=started_at,
            done_at=started_at + self._sandbox.draw(switches.latency),
        )
        self._add(job)
        self._sandbox.meter.accept(str(job.id))
        if switches.charge == "submit":
            self._charge(job, job.price_micros, now)
        return job

    def settle(self) -> None:
        """Bring the books up to now: what ended since is charged or given back."""
        now = self._sandbox.clock.now()
        for job in [job for job in self._open.values() if job.done_at <= now]:
            del self._open[job.id]
            if job.outcome == "success" and not job.charged:
                self._charge(job, job.price_micros, job.done_at)
            elif job.outcome != "success" and job.charged and self._sandbox.switches.refund_on_failed:
                self._charge(job, -job.price_micros, job.done_at)

    def find(self, key: str, identity: str) -> Job | None:
        """The job of a key with this id, as long as the vendor remembers it."""
        job = self._jobs.get(int(identity)) if identity.isdecimal() and len(identity) < 16 else None
        if job is None or job.key != key:
            return None
        forgotten = self._sandbox.clock.now() >= job.done_at + self._sandbox.switches.record_ttl_s
        return None if forgotten else job

    def by_file(self, prefix: str) -> Job | None:
        """The job that delivered this file, while the file is there."""
        switches, now = self._sandbox.switches, self._sandbox.clock.now()
        job = self._files.get(prefix)
        if job is None or job.outcome != "success":
            return None
        ttl_s = switches.temporary_file_ttl_s if job.order.temporary else switches.file_ttl_s
        return job if job.done_at <= now < job.done_at + ttl_s else None

    def may_count(self, key: str) -> bool:
        """Whether a key may ask for its queue once more in this minute."""
        now = self._sandbox.clock.now()
        wallet = self.wallet(key)
        wallet.counts_at = [at for at in wallet.counts_at if at > now - 60.0]
        if len(wallet.counts_at) >= self._sandbox.switches.request_counts_per_minute:
            return False
        wallet.counts_at.append(now)
        return True

    def _add(self, job: Job) -> None:
        self._next_id += 1
        self._jobs[job.id] = self._files[job.prefix] = self._open[job.id] = job
        while len(self._jobs) > JOBS_MAX:
            oldest = self._jobs.pop(next(iter(self._jobs)))
            self._files.pop(oldest.prefix, None)

    def _charge(self, job: Job, amount_micros: int, at: float) -> None:
        job.charged = True
        self.wallet(job.key).spent_micros += amount_micros
        self._sandbox.meter.charge(Charge(str(job.id), job.order.model, amount_micros, at))
