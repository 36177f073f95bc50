"""The recorded requests can be played to the HTTP client that the worker uses."""

from __future__ import annotations

import httpx
import pytest
import vcr.errors

from tests.support import cassettes
from tests.support.make_cassettes import CONTENTS
from tests.support.make_v1_data import PLAYED


def test_every_cassette_is_there() -> None:
    """A cassette that is made but not kept, or kept but not made, could not be made again."""
    assert cassettes.names() == sorted([*CONTENTS, *PLAYED])


@pytest.mark.parametrize("name", cassettes.names())
async def test_plays_its_first_request(name: str) -> None:
    """If the player missed the async client, tests on cassettes would go out to the network."""
    first = cassettes.recorded(name)[0]
    with cassettes.play(name) as cassette:
        async with httpx.AsyncClient() as client:
            response = await client.request(first.method, first.uri)
    assert (response.status_code, response.text) == (first.status, first.body)
    assert cassette.play_count == 1


async def test_plays_answers_to_the_same_request_in_order() -> None:
    """Refusals of one address differ by the key alone, which is not kept: they must come in the recorded order."""
    with cassettes.play("projects"):
        async with httpx.AsyncClient() as client:
            answers = [await client.get(one.uri) for one in cassettes.recorded("projects")]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 401, 401, 200, 403, 401]


async def test_refuses_what_was_not_recorded() -> None:
    """A request that no recording answers must fail, not reach for a server."""
    with cassettes.play("gone"):
        async with httpx.AsyncClient() as client:
            with pytest.raises(vcr.errors.CannotOverwriteExistingCassetteException):
                await client.get(f"{cassettes.HOST}/api/public/v2/observations")


@pytest.mark.parametrize("name", cassettes.names())
def test_holds_no_credentials(name: str) -> None:
    """A kept credential would be published with the tests."""
    text = (cassettes.CASSETTES / f"{name}.yaml").read_text(encoding="utf-8").lower()
    assert [word for word in ("authorization:", "basic ", "sk-lf-", "bearer ") if word in text] == []
