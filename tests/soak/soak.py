"""The soak: two Langfuse projects, one Kelet, the worker's processes, bad luck for so many minutes, and a calm end."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sync_worker.demo.langfuse_server import RecordedLangfuse
from sync_worker.demo.serving import Server
from tests.soak.clocks import PATCH, VARIABLE, Clocks
from tests.soak.plan import KELET, LANGFUSE, Weather
from tests.soak.processes import KILL, ROOT, STOP, TERM, Life, Processes
from tests.soak.project import Project
from tests.soak.scores import Scores
from tests.soak.servers import Kelet, Keys, LangfuseFaults
from tests.soak.verdict import Verdict, compare, compare_scores, explain_doubles, letters_of
from tests.support.langfuse_v1 import LangfuseV1

LANES = ("run", "fill", "ask", "second")
HORIZONS, DEEPEST = "1m,3m,8m", 480.0
_START_BACK = 120.0  # SYNC_START, seconds
_HISTORY = 120  # traces before that
_DAY = 86_400.0
_TICK = 0.1
_PAUSES = {"run": 0.0, "fill": 12.0, "ask": 15.0, "second": 12.0}  # seconds from the end of a command to the next
#: What is noted to be read once more is due after ten minutes, and two more.
_LONGEST_QUIET = 810.0
_LONGEST_JOB = 240.0
#: What a command may end with while both sides are out of order; 143 is a signal before it began.
_CODES = {
    "run": (), "backfill": (0, 1, 3, 4, 75), "once": (0, 1, 3, 4, 75), "dead-letters": (0, 1, 3, 4, 75),
    "verify": (0, 1, 4, 6, 75), "plan": (0, 1, 4, 75), "status": (0,), "explain": (0, 1, 4, 75),
}  # fmt: skip


class Soak:
    """One seed; `findings` tells what went wrong."""

    def __init__(self, folder: Path, seed: int, minutes: float, api: str) -> None:
        self.folder, self.seed, self.api = folder, seed, api
        self.seconds = minutes * 60
        self.begin = time.time()
        self.findings: list[str] = []
        self.verdict = Verdict()
        self.signals: Counter[str] = Counter()
        self.jumps: Counter[str] = Counter()
        self.codes: Counter[str] = Counter()
        self.chance = random.Random(f"soak {seed}")
        self.weather = Weather(seed, self.seconds)
        self.keys = Keys(folder / "keys", [f"{LANGFUSE}-soak", f"{LANGFUSE}-second", *(f"{KELET}-{o}" for o in LANES)])
        self.clocks = Clocks(folder / "clocks", LANES)
        self.projects = {
            "soak": Project("a", _server(api, "soak-proj-a", seed), seed, 0.5, DEEPEST),
            "second": Project("b", _server(api, "soak-proj-b", seed), seed, 0.1, DEEPEST),
        }
        self.scores = {name: Scores(project, seed) for name, project in self.projects.items()}
        self.poison: set[str] = set()
        for project in self.projects.values():
            project.poison = self.poison
        self.kelet = Kelet(self.weather, self.keys, self.poison, self.begin)
        self.kelet.on_kill = self._kill
        self.langfuse = LangfuseFaults(self.weather, self.begin)
        self.processes = Processes(folder, self._environment())
        self._at_work: dict[str, Life | None] = dict.fromkeys(LANES)
        self._next = {"run": 0.0, "fill": self.begin + 8, "ask": self.begin + 15, "second": self.begin + 3}
        self._doomed: list[tuple[float, Life, signal.Signals, float]] = []
        self._next_signal = self.begin + 6
        self._next_jump = self.begin + 10
        self._next_word = self.begin + 60
        self._calm = False

    def run(self) -> None:
        """Run it all."""
        servers: list[Server[Any]] = [self.kelet, *(project.server for project in self.projects.values())]
        try:
            for name, project in self.projects.items():
                self.langfuse.break_in(project.server, reports_limits=self.api == "v2")
                project.server.secret_key = self.keys.secret(f"{LANGFUSE}-{name}")
                project.remember(self.begin, _HISTORY if name == "soak" else _HISTORY // 4)
            for server in servers:
                server.start()
            while time.time() < self.begin + self.seconds:
                self._bad_luck()
                self._tick()
            self._quiet()
        finally:
            self.processes.end()
            for server in servers:
                server.stop()
        self.findings += self.processes.findings

    # Bad luck

    def _bad_luck(self) -> None:
        now = time.time()
        self._replace_keys(now - self.begin)
        for item in [item for item in self._doomed if item[0] <= now]:
            self._doomed.remove(item)
            self._send(item[1], item[2], item[3])
        if now >= self._next_signal:
            self._next_signal = now + self.chance.expovariate(1 / 12)
            alive = [life for life in self._at_work.values() if life is not None]
            live = self._at_work["run"]
            target = live if live is not None and self.chance.random() < 0.6 else self.chance.choice(alive or [None])
            if target is not None:
                self._send(target, *self._draw_signal())
        if now >= self._next_jump:
            self._next_jump = now + self.chance.expovariate(1 / 8)
            self.jumps[self.clocks.jump(self.chance.choice(LANES), self.chance)] += 1

    def _draw_signal(self) -> tuple[signal.Signals, float]:
        kind = self.chance.choice([KILL, KILL, KILL, TERM, TERM, STOP, STOP])
        return kind, self.chance.choice([1.0, 4.0, 12.0, 20.0, 45.0])

    def _send(self, life: Life, kind: signal.Signals, seconds: float) -> None:
        if life.code is None:
            self.signals[f"{kind.name} {life.command}"] += 1
            self.processes.send(life, kind, seconds)

    def _kill(self, lane: str) -> None:
        life = self._at_work[lane]
        if life is not None and not self._calm:
            self._send(life, KILL, 0.0)

    def _replace_keys(self, moment: float) -> None:
        for side in (LANGFUSE, KELET):
            spells = self.weather.refusals(side)
            for name in self.keys.names(side):
                number = sum(1 for spell in spells if spell.start <= moment)
                if number != self.keys.numbers[name]:
                    self.keys.numbers[name] = number
                    self.weather.hits[f"{side}: key replaced"] += 1
                    if side == LANGFUSE:
                        self.projects[name.removeprefix(f"{LANGFUSE}-")].server.secret_key = self.keys.secret(name)
                follows = sum(1 for spell in spells if spell.end <= moment)
                if follows == number and self.keys.file(name).read_text() != self.keys.secret(name):
                    self.keys.hand_out(name)

    # Processes

    def _tick(self) -> None:
        now = time.time()
        for project in self.projects.values():
            project.advance(now)
        for scores in self.scores.values():
            scores.advance(now)
        for life in self.processes.tick():
            self._ended(life)
        for lane in LANES:
            at_work = self._at_work[lane]
            if at_work is None and self._next[lane] <= now:
                self._begin(lane)
            elif at_work is not None and lane != "run" and now - at_work.began > _LONGEST_JOB and not at_work.termed:
                self.signals[f"TERM after {_LONGEST_JOB:.0f} s {at_work.command}"] += 1
                self.processes.send(at_work, TERM)
        if now >= self._next_word:
            self._next_word = now + 60
            print(f"{(now - self.begin) / 60:.0f} min: {self._described_shortly()}", file=sys.stderr, flush=True)
        time.sleep(_TICK)

    def _begin(self, lane: str) -> None:
        arguments = {"run": ["run"], "second": ["once", "--json"]}.get(lane)
        if arguments is None:
            arguments = self._backfill() if lane == "fill" else self._question()
        life = self._start(lane, arguments)
        if not self._calm and lane != "run" and self.chance.random() < 0.35:
            kind, seconds = self._draw_signal()
            self._doomed.append((life.began + self.chance.uniform(0.2, 5), life, kind, seconds))

    def _start(self, lane: str, arguments: list[str]) -> Life:
        life = self.processes.start(lane, arguments, self._own_environment(lane))
        self._at_work[lane] = life
        return life

    def _backfill(self) -> list[str]:
        now = time.time()
        first = now - self.chance.uniform(0.2, 4) * _DAY
        start = self.chance.choice(["4d", "3d", "30m", "10m", _iso(first)])
        end = self.chance.choice(["now", "now", "now", _iso(now - self.chance.uniform(0, 0.5) * 600)])
        if start == _iso(first) and self.chance.random() < 0.7:
            end = _iso(first + self.chance.uniform(0.05, 0.2) * _DAY)
        return ["backfill", "--from", start, "--to", end, "--json"]

    def _question(self) -> list[str]:
        known = self.projects["soak"].traces
        trace = self.chance.choice(known).id or "none"
        return self.chance.choice(
            [
                ["dead-letters", "retry", "--all", "--json"], ["dead-letters", "retry", "--all", "--json"],
                ["verify", "--json"], ["verify", "--from", "4d", "--to", "now", "--json"], ["status", "--json"],
                ["plan", "--from", "2d", "--to", "now", "--json"], ["explain", trace, "--json"],
            ]
        )  # fmt: skip

    def _ended(self, life: Life) -> None:
        if self._at_work[life.lane] is life:
            self._at_work[life.lane] = None
        now = time.time()
        pause = _PAUSES[life.lane] if self._calm else _PAUSES[life.lane] * self.chance.uniform(0.5, 2)
        self._next[life.lane] = max(now + pause, self._next[life.lane])
        self.codes[f"{life.command} {life.code}"] += 1
        if life.killed:
            return
        expected = (*_CODES[life.command], *((0, 143) if life.termed else ()))
        if life.code not in expected:
            self.findings.append(
                f"EXIT {life.code}: {' '.join(life.arguments)} ({life.stderr.name}): {life.text.strip()[-300:]}"
            )

    # The calm end

    def _quiet(self) -> None:
        self._calm = self.weather.calm = True
        self.processes.all_go_on()
        self.clocks.set_right()
        for project in self.projects.values():
            project.calm()
        for scores in self.scores.values():
            scores.calm()
        for side in (LANGFUSE, KELET):
            for name in self.keys.names(side):
                self.keys.hand_out(name)
        self.poison.clear()
        calm_since = time.time()
        self._next |= {"fill": float("inf"), "ask": float("inf")}
        print(f"calm: {self._described_shortly()}", file=sys.stderr, flush=True)
        while self._at_work["fill"] or self._at_work["ask"]:
            self._tick()
        waits = True
        while waits:
            late = time.time() > calm_since + _LONGEST_QUIET
            open_ends = [word for name in self.projects for word in self._open_ends(name, calm_since)]
            if not open_ends or late:
                self._finish()
                self.verdict = self._compared()
                waits = bool(self.verdict.findings) and not late
                if not waits:
                    self.findings += [f"NOT QUIET {word}" for word in open_ends]
            if waits:
                reason = next(iter([*open_ends, *self.verdict.findings]))
                print(f"waits {time.time() - calm_since:.0f} s since calm: {reason[:200]}", file=sys.stderr, flush=True)
                self._go_on(20)
        self.findings += self.verdict.findings
        live = self._at_work["run"]
        if live is not None:
            self._next["run"] = float("inf")
            self.processes.send(live, TERM)
        self._next = dict.fromkeys(LANES, float("inf"))
        while any(self._at_work.values()):
            self._tick()
        for name in self.projects:
            self._verify(name)

    def _go_on(self, seconds: float) -> None:
        until = time.time() + seconds
        while time.time() < until:
            self._tick()

    def _finish(self) -> None:
        """Fill in the history, and try again what was set aside."""
        for _ in range(5):
            done = self._ask("fill", ["backfill", "--from", _iso(self.begin - 4 * _DAY), "--to", "now", "--json"])
            if done.code in (0, 3):
                break
        else:
            self.findings.append("the backfill does not come to its end")
        for name in self.projects:
            self._ask("ask" if name == "soak" else "second", ["dead-letters", "retry", "--all", "--json"])

    def _ask(self, lane: str, arguments: list[str]) -> Life:
        """Run a command to its end while all else goes on."""
        while self._at_work[lane]:
            self._tick()
        life = self._start(lane, arguments)
        while life.code is None:
            self._tick()
        return life

    def _open_ends(self, name: str, calm_since: float) -> list[str]:
        """Return what still waits in one state file."""
        reported = _json(self._ask("ask" if name == "soak" else "second", ["status", "--json"]))
        sources = reported.get("sources", [])
        if not sources:
            return [f"{name} was never synced"]
        (source,) = sources
        looks = source["arrival_delay"]["last_scans"]
        waits = [
            f"{name}: no look at {each} s yet" for each in (60, 180, 480) if _unix(looks.get(str(each))) < calm_since
        ]
        if source["pending_traces"]:
            waits.append(f"{name}: {source['pending_traces']} traces are pending")
        if _unix(source["watermark"]) < calm_since:
            waits.append(f"{name}: the watermark is {source['watermark']}")
        first = _unix(source["sync_start"])
        if not self.begin - _START_BACK - 60 <= first <= self.begin:
            self.findings.append(f"SYNC START of {name} is {source['sync_start']}, the soak began {_iso(self.begin)}")
        return waits

    def _compared(self) -> Verdict:
        verdict = Verdict()
        for name, project in self.projects.items():
            letters = letters_of(self.state(name))
            if name == "second":  # its history is nobody's to send
                gone = [key for key, story in project.stories.items() if story.start < self.begin - 600]
                project.stories = {key: story for key, story in project.stories.items() if key not in gone}
            compare(project, self.kelet.book, letters, verdict, is_old=self.api == "v1")
            compare_scores(self.scores[name], self.kelet.book, letters, verdict)
        explain_doubles(self.kelet.book, self.processes.lives, verdict)
        return verdict

    def _verify(self, name: str) -> None:
        stretch = ["--from", _iso(self.begin - 4 * _DAY), "--to", "now"] if name == "soak" else []
        done = self._ask("ask" if name == "soak" else "second", ["verify", *stretch, "--json"])
        sources = _json(done).get("sources", [])
        if done.code != 0 or not sources or not all(source["complete"] for source in sources):
            self.findings.append(f"VERIFY of {name} ended with {done.code}: {json.dumps(sources)[:1500]}")

    # Words

    def _described_shortly(self) -> str:
        rows = sum(len(project.known) for project in self.projects.values())
        killed = sum(count for kind, count in self.signals.items() if kind.startswith("SIGKILL"))
        arrived, lives = len(self.kelet.book.arrivals), len(self.processes.lives)
        return (
            f"{rows} rows, {arrived} spans, {lives} processes, {killed} killed, "
            f"{self.clocks.jumps} jumps, {sum(self.weather.hits.values())} faults, "
            f"{len(self.findings) + len(self.processes.findings)} findings"
        )

    def summary(self) -> str:
        """Return what was done and found, for people."""
        verdict = self.verdict
        elapsed = time.time() - self.begin
        cpu = sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        kinds = Counter(life.command for life in self.processes.lives)
        states = sum(len(story.states) for project in self.projects.values() for story in project.known)
        cycles = sum(life.text.count('"action": "cycle"') for life in self.processes.lives)
        spans = f"{len(self.kelet.book.arrivals)} spans in {len(self.kelet.book.batches)} requests"
        unmerged = sum(project.unmerged for project in self.projects.values())
        twice = f"{sum(verdict.doubles.values())} explained ({_listed(verdict.doubles) or 'none'})"
        broken = sum(": wrote " in finding for finding in self.processes.findings)
        return f"""\
seed {self.seed}, {self.api}, {self.seconds / 60:g} min of bad luck, {elapsed / 60:.1f} in all
{cpu / elapsed:.0%} of a core, the servers in it
processes: {_listed(kinds)}; cycles that told of something: {cycles}
ended with: {_listed(self.codes)}
signals: {_listed(self.signals)}
clocks set: {_listed(self.jumps)}
faults of Langfuse: {_listed(_of_side(self.weather.hits, LANGFUSE))}
faults of Kelet: {_listed(_of_side(self.weather.hits, KELET))}
Langfuse had {verdict.rows} rows in {states} states, {unmerged} shown unmerged, and {self.langfuse.requests} requests
Kelet took {spans}, of {verdict.arrived} rows; set aside with a dead letter: {verdict.set_aside}
Kelet took {verdict.signals} signals of {sum(len(scores.stories) for scores in self.scores.values())} scores
came twice: {twice}, {len(verdict.unexplained)} not; lost: {len(verdict.lost)}; stale: {len(verdict.stale)}; \
tracebacks: {broken}"""

    # Settings

    def state(self, name: str) -> Path:
        """Return the state file of a project."""
        return self.folder / f"{name}.db"

    def _environment(self) -> dict[str, str]:
        same = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        return same | {
            "PYTHONPATH": f"{PATCH}{os.pathsep}{ROOT}",
            "KELET_API_URL": self.kelet.url,
            "KELET_PROJECT": "soak",
            "LANGFUSE_PUBLIC_KEY": RecordedLangfuse.public_key,
            "SYNC_INTERVAL": "4s",
            "SYNC_SETTLE": "3s",
            "SYNC_MAX_OPEN": "40s",
            "SYNC_START": f"{_START_BACK:.0f}s",
            "SYNC_LATE_HORIZONS": HORIZONS,
            "SYNC_PATIENCE": "20s",
            "SYNC_SCORES": "true",
            "SYNC_SCORE_HORIZONS": HORIZONS,
            "SYNC_LOG_FORMAT": "json",
        }

    def _own_environment(self, lane: str) -> dict[str, str]:
        name = "second" if lane == "second" else "soak"
        return {
            VARIABLE: str(self.clocks.file(lane)),
            "KELET_API_KEY_FILE": str(self.keys.file(f"{KELET}-{lane}")),
            "LANGFUSE_BASE_URL": self.projects[name].server.url,
            "LANGFUSE_SECRET_KEY_FILE": str(self.keys.file(f"{LANGFUSE}-{name}")),
            "SYNC_STATE_PATH": str(self.state(name)),
        }


def _server(api: str, project_id: str, seed: int) -> RecordedLangfuse:
    if api == "v2":
        return RecordedLangfuse(project_id=project_id)
    server = LangfuseV1(mode="v3", seed=seed)
    server.project_id = project_id
    return server


def _json(life: Life) -> dict[str, Any]:
    try:
        return dict(json.loads(life.stdout.read_text()))
    except ValueError:
        return {}


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{kind} {count}" for kind, count in sorted(counts.items()))


def _of_side(hits: Counter[str], side: str) -> Counter[str]:
    return Counter({kind.partition(": ")[2]: count for kind, count in hits.items() if kind.startswith(f"{side}: ")})


def _unix(time_text: str | None) -> float:
    return 0.0 if time_text is None else datetime.fromisoformat(time_text).timestamp()


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
