"""Webhook signatures according to Standard Webhooks."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from holdfast.base.clock import SystemClock
from holdfast.base.errors import BadInput
from holdfast.base.ids import SystemRandomSource
from holdfast.notify.signing import checked_secret, sign

SECRET = SystemRandomSource().webhook_secret()


def test_the_specification_s_example_is_signed_as_it_says() -> None:
    """Secret, id, time, body and signature of the reference implementations' own test."""
    signature = sign(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        id_="msg_p5jXN8AQM9LWM0D4loKWxJek",
        timestamp=1614265330,
        body=b'{"test": 2432232314}',
    )
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@given(st.dictionaries(st.text(max_size=9), st.text(max_size=9)))
def test_the_public_library_accepts_only_signed_requests(data: dict[str, str]) -> None:
    """They do not match another body, id or secret."""
    body, timestamp = json.dumps(data).encode(), int(SystemClock().now().timestamp())
    headers = {
        "webhook-id": "evt_1",
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign(SECRET, id_="evt_1", timestamp=timestamp, body=body),
    }
    assert Webhook(SECRET).verify(body, headers) == data
    for secret, other_body, other in (
        (SystemRandomSource().webhook_secret(), body, {}),
        (SECRET, body + b" ", {}),
        (SECRET, body, {"webhook-id": "evt_2"}),
    ):
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(other_body, headers | other)


@pytest.mark.parametrize("count", [24, 32, 64])
def test_secrets_of_the_specified_length_are_accepted(count: int) -> None:
    """With the prefix, or without."""
    text = base64.b64encode(b"k" * count).decode()
    assert checked_secret(f"whsec_{text}", field="webhookSecret") == f"whsec_{text}"
    assert checked_secret(text, field="webhookSecret") == text


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_c2hvcnQ=", "whsec_" + "A" * 100, "very-secret!", "whsec_é"])
def test_an_invalid_secret_is_refused_without_showing_it(secret: str) -> None:
    """Too short, too long, or no base64."""
    with pytest.raises(BadInput) as refused:
        checked_secret(secret, field="webhookSecret")
    assert refused.value.field == "webhookSecret"
    assert secret in {"", "whsec_"} or secret not in str(refused.value)


def test_the_library_checks_the_time_in_seconds() -> None:
    """A webhook that is old is refused there: the stamp must be of the try, not of the event."""
    old = int(datetime(2020, 1, 1, tzinfo=UTC).timestamp())
    headers = {
        "webhook-id": "evt_1",
        "webhook-timestamp": str(old),
        "webhook-signature": sign(SECRET, id_="evt_1", timestamp=old, body=b"{}"),
    }
    with pytest.raises(WebhookVerificationError, match="too old"):
        Webhook(SECRET).verify(b"{}", headers)
