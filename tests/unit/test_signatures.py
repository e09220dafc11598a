"""What workers sign: fixed vectors, and nothing that can be changed, moved or taken for something else."""

import pytest

from portfolio_stream.web import signatures
from portfolio_stream.web.signatures import Request

TOKEN, GROUP = "a long random secret", "portfolio-stream"
KEY = bytes.fromhex("65cf5439a8274a9fc488c27b9507892c30ae81a6f1d67e74c849a46b8ee74d29")
NONCE = "00112233445566778899aabbccddeeff"
REQUEST = Request(
    method="GET",
    target="/tables/positions?limit=5",
    forwarded="1",
    partitions="0,3",
    body=b"",
    sender="w 1",
    recipient="[::1]:6066",
    time=1_795_408_200_123,
    nonce=NONCE,
)
SIGNATURE = "2ec3d6b1622789505b4324720b892acf8d0e79d83269886f39c00687b77f1872"
HEADER = f"Portfolio-HMAC-SHA256 sender=w%201,time=1795408200123,nonce={NONCE},signature={SIGNATURE}"
ANSWER = (NONCE, 200, "application/json", b"{}")
ANSWER_PROOF = "8685e0cc8d0ac49538ae5d37e349cbef0e196f2453ec17e9f40336ef91a013be"
IDENTITY = (NONCE, "[::1]:6066", "m1", "w 1")
IDENTITY_PROOF = "a9dde07b18f080a9adf2a46d67b46772e65f2528125f2ee819a40da6cc1d9aff"


def test_vectors() -> None:
    """Made once by hand: HMAC-SHA256 over fields, each behind its length in eight bytes. Another version must agree."""
    assert signatures.derive_key(TOKEN, GROUP) == KEY
    assert signatures.sign(KEY, REQUEST) == HEADER
    assert signatures.prove_answer(KEY, *ANSWER) == ANSWER_PROOF
    assert signatures.prove_identity(KEY, *IDENTITY) == IDENTITY_PROOF


def test_header_comes_back() -> None:
    """With the sender's name as it was, whatever it was."""
    given = signatures.credentials(HEADER)
    assert given is not None
    assert (given.sender, given.time, given.nonce) == ("w 1", REQUEST.time, NONCE)
    assert signatures.is_signature(KEY, REQUEST, given.signature)
    for sender in ("ü,nonce=", "a\nb", "x" * 255):
        found = signatures.credentials(signatures.sign(KEY, REQUEST._replace(sender=sender)))
        assert found is not None and found.sender == sender


@pytest.mark.parametrize(
    "changed",
    [
        {"method": "POST"},
        {"target": "/tables/positions?limit=6"},
        {"target": "/tables/positions"},
        {"forwarded": None},
        {"forwarded": ""},
        {"partitions": "0,3,4"},
        {"partitions": None},
        {"body": b"{}"},
        {"sender": "w1"},
        {"recipient": "[::1]:6067"},
        {"time": REQUEST.time + 1},
        {"nonce": NONCE[::-1]},
        {"method": "GET/", "target": "tables/positions?limit=5"},
    ],
)
def test_signature_covers_every_field(changed: dict[str, object]) -> None:
    """Whatever is changed on the way, the signature is another's; a shifted border between fields too."""
    assert not signatures.is_signature(KEY, REQUEST._replace(**changed), SIGNATURE)


@pytest.mark.parametrize("index", range(len(ANSWER)))
def test_proof_of_an_answer_covers_every_field(index: int) -> None:
    """Nonce, status, content type, body."""
    others = (NONCE[::-1], 404, "text/html", b"{} ")
    changed = [*ANSWER[:index], others[index], *ANSWER[index + 1 :]]
    assert signatures.is_answer(KEY, ANSWER_PROOF, *ANSWER)
    assert not signatures.is_answer(KEY, ANSWER_PROOF, *changed)  # type: ignore[arg-type]


@pytest.mark.parametrize("index", range(len(IDENTITY)))
def test_proof_of_an_identity_covers_every_field(index: int) -> None:
    """Nonce, address, member, name: it cannot be passed on as another's."""
    changed = [*IDENTITY[:index], IDENTITY[index][::-1], *IDENTITY[index + 1 :]]
    assert signatures.is_identity(KEY, IDENTITY_PROOF, *IDENTITY)
    assert not signatures.is_identity(KEY, IDENTITY_PROOF, *changed)


def test_a_kind_of_message_is_no_other() -> None:
    """The challenge that anybody may send makes a worker sign nothing that passes for a request or an answer."""
    assert not signatures.is_answer(KEY, IDENTITY_PROOF, *ANSWER)
    assert not signatures.is_signature(KEY, REQUEST, ANSWER_PROOF)
    assert not signatures.is_identity(KEY, None, *IDENTITY)
    assert not signatures.is_answer(KEY, "ü", *ANSWER)


@pytest.mark.parametrize(("token", "group"), [("another secret", GROUP), (TOKEN, "another-group")])
def test_key_is_of_one_token_and_one_group(token: str, group: str) -> None:
    """Two apps with one token do not take each other's requests."""
    assert signatures.derive_key(token, group) != KEY


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer secret",
        HEADER.replace("HMAC", "HMAD"),
        HEADER + " ",
        HEADER[:-1],
        HEADER.replace(NONCE, NONCE.upper()),
        HEADER.replace("time=1795408200123", "time=-1"),
        HEADER.replace("time=1795408200123", "time=" + "9" * 16),
        HEADER.replace("w%201", ""),
        HEADER.replace("w%201", "w 1"),
        HEADER.replace("w%201", "x" * 3101),
    ],
)
def test_other_headers_are_no_signature(header: str | None) -> None:
    """One form, of bounded length."""
    assert signatures.credentials(header) is None
