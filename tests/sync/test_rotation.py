"""Keys in files change under a worker: it goes on with the new ones."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

from sync_worker.demo.serving import Reply, Request
from sync_worker.errors import ExitCode
from tests.support.programs import Program
from tests.support.rows import row
from tests.sync.conftest import MakeWorld
from tests.sync.world import World, identities

NEW = {
    "LANGFUSE_PUBLIC_KEY": "pk-lf-brand-new-one",
    "LANGFUSE_SECRET_KEY": "sk-lf-brand-new-one",
    "KELET_API_KEY": "brand-new",
}
NAMES = tuple(NEW)
ROWS = [row(start=float(number), trace=f"trace-{number}", name=f"row {number}") for number in range(6)]


def _put_into_files(made: World) -> None:
    for name in NAMES:
        (made.folder / name).write_text(made.environ.pop(name))
        made.environ[f"{name}_FILE"] = str(made.folder / name)


def _rotate(made: World, files: tuple[str, ...] = NAMES) -> None:
    """Have the servers take other keys from now on, and write those into these files."""
    made.langfuse.public_key, made.langfuse.secret_key = NEW["LANGFUSE_PUBLIC_KEY"], NEW["LANGFUSE_SECRET_KEY"]
    made.kelet.api_key = NEW["KELET_API_KEY"]
    for name in files:
        (made.folder / name).write_text(NEW[name])


def _once_when_asked(made: World, path: str, act: Callable[[], None]) -> None:
    done: list[int] = []

    def script(request: Request) -> Reply | None:
        if request.path.endswith(path) and not done:
            done.append(1)
            act()
        return None

    made.langfuse.script = script


def test_key_that_is_replaced_in_the_middle_of_a_run(make_world: MakeWorld) -> None:
    """`once` and a backfill of hours would end with 4 at each change of a key."""
    made = make_world(ROWS, SYNC_START="2h")
    _put_into_files(made)
    _once_when_asked(made, "v2/observations", lambda: _rotate(made))
    report, code = made.once()
    assert (report.error, code) == (None, ExitCode.OK)
    assert made.arrived() == identities(ROWS)


def test_new_keys_open_the_same_source(make_world: MakeWorld) -> None:
    """After a change of keys all would be sent again, or what comes be left out."""
    made = make_world(ROWS, SYNC_START="2h")
    _put_into_files(made)
    made.once()
    _rotate(made)
    later = row(start=3500.0, trace="later", name="later")
    made.langfuse.rows.extend([later])
    made.cycles(600)
    assert made.arrived() == identities([*ROWS, later])


def test_pair_of_which_one_file_comes_later(make_world: MakeWorld) -> None:
    """Between the writing of one file and the other the run would end."""
    made = make_world(ROWS, SYNC_START="2h")
    _put_into_files(made)
    _rotate(made, ("LANGFUSE_PUBLIC_KEY", "KELET_API_KEY"))
    sleep = made.clock.sleep

    async def sleeps(seconds: float) -> None:
        (made.folder / "LANGFUSE_SECRET_KEY").write_text(NEW["LANGFUSE_SECRET_KEY"])
        await sleep(seconds)

    made.clock.sleep = sleeps  # type: ignore[method-assign]
    report, code = made.once()
    assert (report.error, code) == (None, ExitCode.OK)
    assert made.arrived() == identities(ROWS)


def test_key_that_is_just_wrong(make_world: MakeWorld) -> None:
    """A key in a file that did not change would be tried for ever."""
    made = make_world(ROWS, SYNC_START="2h")
    _put_into_files(made)
    made.langfuse.secret_key = "sk-lf-nobody-knows"
    _, code = made.once()
    assert code == ExitCode.CREDENTIALS
    assert len(made.langfuse.requests) == 1


def _wait(until: Callable[[], bool], process: Program) -> None:
    ends = time.monotonic() + 60.0
    while not until():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < ends
        time.sleep(0.05)


def test_run_waits_for_a_new_key(make_world: MakeWorld) -> None:
    """systemd would leave the worker dead when Kubernetes or a person is a minute later than the server."""
    made = make_world([], SYNC_INTERVAL="1s")
    _put_into_files(made)
    made.langfuse.secret_key = NEW["LANGFUSE_SECRET_KEY"]
    with made.start("run") as process:
        try:
            _wait(lambda: len(made.langfuse.requests) >= 1, process)
            time.sleep(2.5)
            refused = len(made.langfuse.requests)
            assert process.poll() is None
            assert refused <= 2  # a key that is refused is not tried each second
            _rotate(made)
            _wait(lambda: any(request.status == 200 for request in made.langfuse.requests), process)
        finally:
            process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=30)
    assert process.returncode == ExitCode.OK
    assert "Traceback" not in err
    assert not any(key in err for key in NEW.values())
    assert "a new key was read from" in err


def test_run_ends_where_no_file_can_change(make_world: MakeWorld) -> None:
    """A worker with a wrong key in its environment would look healthy for ever."""
    made = make_world([], SYNC_INTERVAL="1s")
    made.langfuse.secret_key = "sk-lf-nobody-knows"
    code, _, err = made.program("run")
    assert code == ExitCode.CREDENTIALS, err
