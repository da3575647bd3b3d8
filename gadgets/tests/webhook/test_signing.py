"""Signatures are those of the Standard Webhooks convention, and nothing else passes."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bester_gadgets.webhook.signing import BadSignature, read_secret, sign, verify

KEY = b"k" * 32
NOW = 1_700_000_000
BOUNDED = settings(max_examples=60, deadline=None)
IDS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40)


def test_the_example_of_the_convention() -> None:
    key = read_secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = sign([key], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


@BOUNDED
@given(id=IDS, body=st.binary(max_size=200), key=st.binary(min_size=24, max_size=64))
def test_what_is_signed_is_verified(id: str, body: bytes, key: bytes) -> None:
    headers = sign([key], id, NOW, body)
    assert verify([KEY, key], headers, body, NOW + 299) == (id, NOW)


@BOUNDED
@given(id=IDS, body=st.binary(max_size=50), other=st.binary(max_size=50), stamp=st.integers(NOW - 300, NOW + 300))
def test_anything_else_is_not(id: str, body: bytes, other: bytes, stamp: int) -> None:
    headers = sign([KEY], id, NOW, body)
    forged = [(headers | {"webhook-id": id + "x"}, body), (headers | {"webhook-signature": "v1,AAAA"}, body)]
    if other != body:
        forged.append((headers, other))
    if stamp != NOW:
        forged.append((headers | {"webhook-timestamp": str(stamp)}, body))
    for changed, content in forged:
        with pytest.raises(BadSignature, match="not right"):
            verify([KEY], changed, content, NOW)
    with pytest.raises(BadSignature, match="not right"):
        verify([b"x" * 32], headers, body, NOW)


@BOUNDED
@given(
    st.dictionaries(st.sampled_from(["webhook-id", "webhook-timestamp", "webhook-signature"]), st.text(max_size=300))
)
def test_any_headers_are_refused_politely(headers: dict[str, str]) -> None:
    with pytest.raises(BadSignature):
        verify([KEY], headers, b"", NOW)


@pytest.mark.parametrize("now", [NOW + 301, NOW - 301])
def test_not_for_ever(now: int) -> None:
    with pytest.raises(BadSignature, match="more than 300 s"):
        verify([KEY], sign([KEY], "a", NOW, b""), b"", now)


def test_two_secrets_while_one_is_replaced() -> None:
    old, new = b"o" * 32, b"n" * 32
    headers = sign([old, new], "a", NOW, b"body")
    assert len(headers["webhook-signature"].split(" ")) == 2
    assert verify([new], headers, b"body", NOW)
    assert verify([old], headers, b"body", NOW)
    many = headers | {"webhook-signature": " ".join(["v1,x"] * 20 + headers["webhook-signature"].split(" "))}
    with pytest.raises(BadSignature):
        verify([new], many, b"body", NOW)


@pytest.mark.parametrize(
    "wrong",
    ["", "x" * 40, "whsec_", "whsec_!!!!", "whsec_" + base64.b64encode(b"x" * 23).decode(), "whsec_" + "A" * 100],
)
def test_secrets_that_are_none(wrong: str) -> None:
    with pytest.raises(ValueError, match="a secret is whsec_"):
        read_secret(wrong)
