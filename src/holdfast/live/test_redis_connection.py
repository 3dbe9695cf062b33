"""What a URL may be, and what an operator reads when Redis is unwell."""

from __future__ import annotations

import ssl

import pytest
from redis import exceptions

from holdfast.base.errors import Misconfigured
from holdfast.live.redis_connection import RedisServer
from holdfast.live.redis_errors import describe_error
from tests.doubles.fake_clock import FakeClock

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("url", "where"),
    [
        ("redis://127.0.0.1:6379/0", "127.0.0.1:6379"),
        ("redis://", "localhost:6379"),
        (f"redis://someone:{SECRET}@redis.lan:6380/3", "redis.lan:6380"),
        (f"redis://:{SECRET}%40%2F%3F%23@[::1]", "::1:6379"),
        (f"rediss://:{SECRET}@redis.lan?ssl_cert_reqs=none", "redis.lan:6379"),
        (f"unix://:{SECRET}@/run/redis/redis.sock?db=2", "/run/redis/redis.sock"),
    ],
)
def test_redis_urls_are_accepted_and_shown_without_the_password(url: str, where: str) -> None:
    """The address is shown without the password."""
    assert RedisServer(url, clock=FakeClock()).where == where


@pytest.mark.parametrize(
    "url",
    [
        "",
        SECRET,
        f"http://{SECRET}@127.0.0.1",
        f"redis://:{SECRET}@127.0.0.1:port",
        f"redis://:{SECRET}@127.0.0.1:70000",
        f"redis://:{SECRET}@127.0.0.1/sessions",
        f"redis://:{SECRET}@127.0.0.1?db={SECRET}",
        f"redis://127.0.0.1?no_such_option={SECRET}",
        f"redis://:1/{SECRET}@127.0.0.1",
        f"redis://:1?{SECRET}@127.0.0.1",
        f"redis://{SECRET}#@127.0.0.1",
        f"redis://[{SECRET}",
        f"unix://{SECRET}",
        f"rediss://127.0.0.1?ssl_ca_certs=/no/such/{SECRET}",
    ],
)
def test_a_url_that_cant_be_used_is_refused_with_the_cure_and_without_the_url(url: str) -> None:
    """A password that was not escaped is the commonest mistake: nothing of the URL is repeated, nor chained."""
    with pytest.raises(Misconfigured) as refused:
        RedisServer(url, clock=FakeClock())
    assert refused.value.sentence.startswith("HOLDFAST_REDIS_URL (hidden) can't be used: ")
    assert refused.value.field == "HOLDFAST_REDIS_URL"
    assert SECRET not in refused.value.sentence
    assert refused.value.__cause__ is None
    assert refused.value.__context__ is None or refused.value.__suppress_context__


def caused(error: Exception, cause: Exception) -> Exception:
    error.__context__ = cause
    return error


def tls_error(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, "[SSL] something")
    error.reason = reason
    return error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (exceptions.TimeoutError("Timeout reading"), "it does not answer"),
        (TimeoutError(), "it does not answer"),
        (exceptions.AuthenticationError("Authentication required."), "it requires a password"),
        (exceptions.AuthenticationError("invalid username-password pair"), "it refuses user or password"),
        (exceptions.AuthenticationError("AUTH <password> called without any password configured"), "has no password"),
        (exceptions.NoPermissionError("User x has no permissions"), "may not use the keys whatsapp:session:*"),
        (exceptions.ReadOnlyError("You can't write against a read only replica."), "read-only replica"),
        (exceptions.MasterDownError("Link with MASTER is down"), "lost its primary"),
        (exceptions.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."), "it is full"),
        (exceptions.BusyLoadingError("Redis is loading the dataset in memory"), "still loading"),
        (exceptions.InvalidResponse("Protocol error"), "does not speak the Redis protocol"),
        (caused(exceptions.ConnectionError("x"), ConnectionRefusedError(111, "x")), "(Connection refused)"),
        (caused(exceptions.ConnectionError("x"), OSError(-2, "Name or service not known")), "(Name or service not"),
        (caused(exceptions.ConnectionError("x"), tls_error("WRONG_VERSION_NUMBER")), "TLS fails (WRONG"),
        (exceptions.ConnectionError("max number of clients reached"), "maxclients"),
        (exceptions.ConnectionError("Connection closed by server."), "it closes the connection"),
        (exceptions.ResponseError("MISCONF Redis is configured to save RDB snapshots"), "can't save to its disk"),
        (exceptions.ResponseError("unknown command 'SET', with args: '962790000001'"), "(unknown command)"),
        (ZeroDivisionError("962790000001"), "ZeroDivisionError"),
    ],
)
def test_each_problem_has_a_sentence_for_operators(error: Exception, words: str) -> None:
    """The sentence says what is wrong, and contains nothing that was to be written."""
    assert words in describe_error(error)
    assert "962790000001" not in describe_error(error)
