"""Who may ask on Flink's port: its clients send no token on loopback, and a web page may change nothing."""

import pytest

from portfolio_stream.errors import WebTokenMissing
from portfolio_stream.http.access import Access
from portfolio_stream.settings import Settings

TOKEN = "a token of sixteen characters or more"


def status(method: str, token: str | None = None, bound: str = "127.0.0.1", **headers: str | None) -> int:
    access = Access(Settings(web_token=token), bound, changes_on_loopback=True)
    given = {"host": "localhost:8081", "authorization": None} | headers
    refusal = access.refusal(path="/jobs/x", method=method, **given)
    return 200 if refusal is None else int(refusal.status)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, 200),
        ({"origin": "http://localhost:8081"}, 200),
        ({"origin": "http://localhost:8082"}, 403),
        ({"origin": "https://localhost:8081"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"host": "evil.example:8081", "origin": "http://evil.example:8081"}, 421),
        ({"host": None}, 421),
    ],
)
@pytest.mark.parametrize("method", ["POST", "PATCH", "PUT", "DELETE"])
def test_a_change_on_loopback_comes_from_no_other_page(
    method: str, headers: dict[str, str | None], expected: int
) -> None:
    """curl and Flink's clients send no Origin; browsers do, and a page may rebind its name but not its Origin."""
    assert expected == status(method, **headers)


def test_the_token_is_asked_for_wherever_there_is_one() -> None:
    assert [401, 401] == [status("POST", TOKEN), status("GET", TOKEN)]
    assert [200, 200] == [status(method, TOKEN, authorization=f"Bearer {TOKEN}") for method in ("POST", "GET")]


def test_another_address_needs_the_token() -> None:
    with pytest.raises(WebTokenMissing):
        status("GET", bound="0.0.0.0")
    assert 401 == status("PATCH", TOKEN, bound="0.0.0.0")


def test_a_workers_port_changes_nothing_without_a_token() -> None:
    """The worker's own web server is as strict as before."""
    refusal = Access(Settings(), "127.0.0.1").refusal(
        host="localhost", path="/job/stop", authorization=None, method="POST"
    )
    assert refusal is not None
    assert 403 == refusal.status
