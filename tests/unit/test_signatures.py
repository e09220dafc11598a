"""What workers sign: fixed vectors, and nothing that can be changed, moved or taken for something else."""

import pytest

from portfolio_stream.http import signatures
from portfolio_stream.http.signatures import SignedRequest

TOKEN, GROUP = "a long random secret", "portfolio-stream"
KEY = bytes.fromhex("9567b9cd04e108a10a385641f18922891b322483ae465a6b463d317d5bba3ef5")
NONCE = "00112233445566778899aabbccddeeff"
REQUEST = SignedRequest(
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
SIGNATURE = "7b8f32d85c4636381474c9043bc41dc261b517bf955ea3b9881eee91250074e7"
HEADER = f"Portfolio-HMAC-SHA256 sender=w%201,time=1795408200123,nonce={NONCE},signature={SIGNATURE}"
ANSWER = (NONCE, 200, "application/json", b"{}")
ANSWER_PROOF = "0f56547406f784742fd2d8ade933b1052cc7c73460f2e37eca39bdd5d82ad81f"
IDENTITY = (NONCE, "[::1]:6066", "m1", "w 1")
IDENTITY_PROOF = "84b619517e3b74978f46ab81bd0404adb729276c15759259cb5d1f6df6f644f1"


def test_vectors() -> None:
    """Made once by hand: a key by PBKDF2, HMAC-SHA256 over fields, each behind its length in eight bytes. Another
    version must agree."""
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
