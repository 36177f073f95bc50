"""What one seed stands for: settings, times, the weather. All of it is drawn before anything runs."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from tests.simulation.moments import DAY, HOUR, MINUTE, SECOND

#: A Sunday's noon; each seed begins some whole minutes after it.
NOON = 1_795_348_800_000


@dataclass(frozen=True, slots=True)
class Spell:
    """A time in which one thing goes wrong for everybody."""

    kind: str
    start: int
    end: int


@dataclass(slots=True)
class Plan:
    """The draw of a seed. Times in Unix milliseconds, lengths in milliseconds."""

    seed: int
    begin: int = 0
    horizons: tuple[int, ...] = ()
    look_back: int = 0  # what the first run reaches back
    span: int = 0  # how long rows keep coming
    settle: int = 30 * SECOND
    max_open: int = 30 * MINUTE
    resend: bool = True
    traces: int = 10
    batch_spans: int = 512
    requests_per_minute: int | None = None
    patience: float | None = None
    page_limit: int = 1000  # the server answers 422 above it
    body_limit: int | None = None  # Kelet answers 413 above it, bytes
    gzip_status: int | None = None  # what Kelet says to gzip, if it takes none
    small: bool = False  # memory and look-ups scaled down to the size of the history
    backfill: str = ""  # before, beside
    interval: tuple[int, int] = (0, 0)
    cycles: list[int] = field(default_factory=list)
    quiet_step: int = 10 * MINUTE
    rates: dict[str, float] = field(default_factory=dict)
    spells: list[Spell] = field(default_factory=list)
    deaths: float = 0.0  # how many deaths to expect in a hundred commits and requests
    stops: float = 0.0  # share of the cycles that are asked to stop
    jumps: float = 0.0  # share of the cycles before which the clock jumps
    worlds: frozenset[str] = frozenset()  # what is odd about this seed's surroundings, of `WORLDS`
    sources: int = 1
    first_fill: int = 0  # of a backfill up to now: the number of the cycle beside which it begins
    gateway: int | None = None  # Kelet's gateway does not answer bodies above it, bytes
    rate_limit: int | None = None  # requests a minute that Langfuse answers, where it counts them
    rotations: list[tuple[int, str]] = field(default_factory=list)  # when which key is replaced
    gone: list[int] = field(default_factory=list)  # numbers of cycles in which the state file is taken away
    restores: list[tuple[int, int]] = field(default_factory=list)  # (backed up, restored) before these cycles
    #: Before which cycles a pause of everything begins and ends, whether by the Kelet project, and whether by itself.
    pauses: list[tuple[int, int, bool, bool]] = field(default_factory=list)
    days: int = 0  # how many days its spans take, where their number on a day is limited
    interval_seconds: int = 60  # from one cycle of a long-running worker to the next
    estimates: list[int] = field(default_factory=list)  # numbers of cycles beside which `plan` is asked

    @property
    def deepest(self) -> int:
        """The deepest look-back."""
        return max(self.horizons)

    @property
    def score_horizons(self) -> tuple[int, ...]:
        """The look-backs of scores, of which the deepest is well beyond that of rows."""
        return (*self.horizons[:-1], 2 * self.deepest + HOUR)

    @property
    def end(self) -> int:
        """When the last trace begins at the latest."""
        return self.begin + self.span

    def has(self, world: str) -> bool:
        """Whether the surroundings are odd in this way."""
        return world in self.worlds

    def holds(self, kind: str, moment: int) -> bool:
        """Whether a spell of a kind is on."""
        return any(spell.kind == kind and spell.start <= moment < spell.end for spell in self.spells)


_LANGFUSE_RATES = (
    ("langfuse 429", 0.05), ("langfuse 500", 0.05), ("langfuse timeout", 0.04), ("langfuse dropped", 0.04),
    ("langfuse unreachable", 0.03), ("short page", 0.3), ("empty page", 0.1), ("same cursor", 0.01),
    ("langfuse no json", 0.02), ("langfuse 524", 0.03),
)  # fmt: skip
_KELET_RATES = (
    ("kelet 429", 0.08), ("kelet 503", 0.08), ("kelet dropped before", 0.05), ("kelet dropped after", 0.06),
    ("kelet timeout after", 0.04), ("kelet partial", 0.04), ("kelet odd body", 0.1), ("kelet 413", 0.04),
)  # fmt: skip
_SPELLS = (
    "langfuse 401", "langfuse 503", "langfuse unreachable", "projects 500", "kelet 401", "kelet 404", "kelet 503",
    "kelet unreachable", "kelet not itself", "disk full",
)  # fmt: skip

#: What may be odd about a seed's surroundings, and in what share of the seeds it is.
WORLDS = {
    "clocks": 0.2,  # the processes' clocks jump far, or stand still
    "sources": 0.15,  # several Langfuse projects
    "unmerged": 0.25,  # while two states of a row are listed, the content of either stands in both
    "odd rows": 0.15,  # rows that break parsers
    "stuck": 0.12,  # spans on which Kelet answers 500 for ever
    "gateway": 0.15,  # bodies over a size are not answered
    "buckets": 0.15,  # Langfuse counts requests by bucket
    "rotation": 0.12,  # keys are replaced, their files a minute later
    "restore": 0.1,  # an old state file is put back
    "v1": 0.06,  # the server has the older API alone
    "not kelet": 0.1,  # something in front of Kelet answers in its place, for hours
    "backfill": 0.1,  # a backfill up to now beside the live sync
    "gone": 0.1,  # the state file is taken away under the worker
    "filters": 0.2,  # environments are left out, and traces that are not in a sample
    "run": 0.25,  # the live sync is a long-running worker, where its history is of hours
}


#: In what share of the seeds scores are sent too. Drawn apart, so that the rest of a seed stays as it is without.
SCORES_SHARE = 0.3
#: The same of seeds in which an operator pauses the sync for a while.
PAUSES_SHARE = 0.15
#: The same of seeds in which the spans of a day are limited.
LIMIT_SHARE = 0.12
#: The same of seeds in which people's addresses stand in many places, and are redacted.
REDACTION_SHARE = 0.15


def draw(seed: int, worlds: frozenset[str] | None = None) -> Plan:
    """Draw the plan of a seed; `worlds` are its odd surroundings, drawn too where they are not given."""
    chance = random.Random(f"plan {seed}")
    plan = Plan(seed)
    plan.begin = NOON + chance.randrange(0, 5_000) * MINUTE
    plan.horizons, plan.span, plan.look_back = chance.choice(
        [
            ((10 * MINUTE, HOUR), chance.randint(60, 180) * MINUTE, HOUR),
            ((20 * MINUTE, 2 * HOUR), chance.randint(2, 6) * HOUR, 2 * HOUR),
            ((20 * MINUTE, 2 * HOUR, 12 * HOUR), chance.randint(4, 24) * HOUR, 6 * HOUR),
            ((20 * MINUTE, 2 * HOUR, 48 * HOUR), chance.randint(12, 72) * HOUR, 24 * HOUR),
        ]
    )
    plan.max_open = chance.choice([10, 30]) * MINUTE
    plan.resend = chance.random() < 0.8
    plan.traces = chance.choice([3, 8, 15, 25])
    plan.batch_spans = chance.choice([1, 2, 3, 8, 512])
    plan.requests_per_minute = chance.choice([None, None, None, 20, 60])
    plan.patience = chance.choice([None, None, 60.0, 300.0])
    plan.page_limit = chance.choice([1000, 1000, 1000, 1000, 1000, 1000, 300, 60, 7, 2 if plan.traces < 15 else 7])
    plan.body_limit = chance.choice([None, None, 24_000, 12_000])
    plan.gzip_status = chance.choice([None, None, None, 400, 415])
    plan.small = chance.random() < 0.4
    _draw_cycles(plan, chance)
    _draw_backfill(plan, chance)
    _draw_weather(plan, chance)
    _draw_worlds(plan, random.Random(f"worlds {seed}"), worlds)
    if worlds is None and random.Random(f"scores {seed}").random() < SCORES_SHARE:
        plan.worlds |= {"scores"}
    _draw_pauses(plan, random.Random(f"pauses {seed}"), worlds)
    _draw_limit(plan, random.Random(f"limit {seed}"), worlds)
    if worlds is None and random.Random(f"redaction {seed}").random() < REDACTION_SHARE:
        plan.worlds |= {"redaction"}
    return plan


def _draw_pauses(plan: Plan, chance: random.Random, worlds: frozenset[str] | None) -> None:
    if worlds is None and chance.random() < PAUSES_SHARE:
        plan.worlds |= {"pauses"}
    if plan.has("pauses"):
        first = chance.randrange(len(plan.cycles) - 1)
        last = chance.randrange(first + 1, len(plan.cycles))
        plan.pauses = [(first, last, chance.random() < 0.5, chance.random() < 0.5)]


def _draw_limit(plan: Plan, chance: random.Random, worlds: frozenset[str] | None) -> None:
    if worlds is None and chance.random() < LIMIT_SHARE and not plan.has("run"):  # whose cycles of days are too many
        plan.worlds |= {"limit"}
    if plan.has("limit"):
        plan.days = chance.choice([2, 3, 6])


def _draw_cycles(plan: Plan, chance: random.Random) -> None:
    count = chance.randint(12, 40)
    step = max(MINUTE, plan.span // count)
    moment = plan.begin
    longest = 3 * DAY if plan.deepest > 12 * HOUR else 2 * plan.deepest
    outage_at = chance.randrange(count) if chance.random() < 0.4 else None
    for number in range(count):
        plan.cycles.append(moment)
        gap = MINUTE if chance.random() < 0.3 else round(step * chance.uniform(0.3, 1.7))
        if number == outage_at:
            gap += chance.randrange(longest)
        moment += max(5, gap // SECOND) * SECOND
    plan.quiet_step = max(MINUTE, plan.deepest // chance.choice([4, 8, 12]))


def _draw_backfill(plan: Plan, chance: random.Random) -> None:
    plan.backfill = chance.choice(["", "", "before", "beside", "now"])
    first = plan.begin - plan.look_back
    start = first - chance.choice([1, 2, 4]) * HOUR
    plan.interval = (start, chance.choice([first, first, first - 20 * MINUTE, first + 20 * MINUTE]))
    if plan.backfill == "now":
        plan.first_fill = chance.randrange(len(plan.cycles))
        now = plan.cycles[plan.first_fill]
        plan.interval = (chance.choice([start, start, first, now - (now - first) // 2, now - 5 * MINUTE]), now)


def _draw_weather(plan: Plan, chance: random.Random) -> None:
    calm = chance.random() < 0.15
    for kind, highest in (*_LANGFUSE_RATES, *_KELET_RATES):
        if not calm and chance.random() < 0.35:
            plan.rates[kind] = highest * chance.random()
    for _ in range(0 if calm else chance.choice([0, 0, 1, 2, 3])):
        start = plan.begin + chance.randrange(plan.span)
        plan.spells.append(Spell(chance.choice(_SPELLS), start, start + chance.choice([2, 10, 45]) * MINUTE))
    plan.deaths = 0.0 if calm else chance.choice([0.0, 0.5, 1.5, 4.0])
    plan.stops = 0.0 if calm else chance.choice([0.0, 0.0, 0.1])
    plan.jumps = 0.0 if calm else chance.choice([0.0, 0.0, 0.1])


def _draw_worlds(plan: Plan, chance: random.Random, worlds: frozenset[str] | None) -> None:
    drawn = frozenset(world for world, share in WORLDS.items() if world != "run" and chance.random() < share)
    if random.Random(f"run {plan.seed}").random() < WORLDS["run"]:
        drawn |= {"run"}
    if worlds is None:
        worlds = drawn if plan.rates or plan.spells or plan.deaths or chance.random() < 0.5 else frozenset()
    if "v1" in worlds:
        worlds -= {
            "unmerged",
            "odd rows",
            "buckets",
            "filters",
        }  # it merges what it shows, and has neither of the others
        plan.small, plan.requests_per_minute = False, None  # counting takes more requests than such limits leave
        plan.traces = min(plan.traces, 8)
    if "run" in worlds:
        if plan.deepest > 2 * HOUR or "sources" in worlds:
            worlds -= {"run"}
        else:
            plan.deaths /= 4  # it commits a heartbeat every 20 seconds
            plan.interval_seconds = chance.choice([300, 600, 900])
    plan.worlds = worlds
    count = len(plan.cycles)
    if plan.has("sources"):
        plan.sources = chance.choice([2, 3])
        plan.traces = max(3, plan.traces // plan.sources)
    if plan.has("gateway"):
        plan.gateway = chance.choice([6_000, 12_000, 40_000])
    if plan.has("buckets"):
        plan.rate_limit = chance.choice([30, 60])
        plan.estimates = sorted(chance.sample(range(count), k=min(count, 3)))
    if plan.has("rotation"):
        keys = ["kelet", *(f"langfuse-{number}" for number in range(plan.sources))]
        moments = sorted(plan.begin + chance.randrange(plan.span) for _ in range(chance.choice([1, 2, 4])))
        plan.rotations = [(moment, chance.choice(keys)) for moment in moments]
    if plan.has("not kelet"):
        start = plan.begin + chance.randrange(plan.span // 2)
        plan.spells.append(Spell("kelet not itself", start, start + plan.span // 3))
    if plan.has("backfill"):
        plan.backfill, plan.first_fill = "now", chance.randrange(count // 2)
        now = plan.cycles[plan.first_fill]
        plan.interval = (plan.begin - plan.look_back - HOUR, now)
    if plan.has("gone"):
        plan.gone = chance.sample(range(1, count), k=chance.choice([1, 2]))
    if plan.has("restore"):
        backed_up = chance.randrange(1, count - 3)
        plan.restores = [(backed_up, chance.randrange(backed_up + 1, count))]
