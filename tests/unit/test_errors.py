"""What an operator is told of an error that nobody raised on purpose."""

import errno
import os

import pytest

from sync_worker.errors import describe_unexpected


@pytest.mark.parametrize(
    ("number", "cure"), [(errno.EMFILE, "ulimit -n"), (errno.ENOMEM, "memory"), (errno.EPIPE, "report the output")]
)
def test_what_the_system_lacks_has_a_cure(number: int, cure: str) -> None:
    """A limit of the system would be reported as a fault of the program."""
    line = describe_unexpected(OSError(number, os.strerror(number), "file"))
    assert os.strerror(number) in line
    assert "Nothing counts as sent without a response. Try: " in line
    assert cure in line.partition("Try: ")[2]
    assert "\n" not in line


def test_a_fault_of_the_program_is_to_be_reported() -> None:
    """Nobody would learn of it."""
    assert describe_unexpected(KeyError("x")).startswith("unexpected KeyError: 'x'. Nothing counts as sent")
    assert describe_unexpected(KeyError("x")).endswith("report the output")
