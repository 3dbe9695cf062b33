"""Error messages about Redis for operators. They contain neither a password nor data."""

from __future__ import annotations

import os
import ssl

from redis import exceptions

_URL = "HOLDFAST_REDIS_URL"


def describe_error(error: BaseException) -> str:
    """`it refuses connections`: the rest of a sentence that begins with `Redis at 127.0.0.1:6379:`."""
    text = str(error)
    match error:
        case exceptions.TimeoutError() | TimeoutError():
            return "it does not answer"
        case exceptions.AuthenticationError():
            return _login(text)
        case exceptions.NoPermissionError():
            return f"the user in {_URL} may not use the keys whatsapp:session:*"
        case exceptions.ReadOnlyError():
            return f"it is a read-only replica; point {_URL} at the primary"
        case exceptions.MasterDownError():
            return f"it is a replica that lost its primary; point {_URL} at the primary"
        case exceptions.OutOfMemoryError():
            return "it is full; raise its maxmemory, or let it evict keys"
        case exceptions.BusyLoadingError():
            return "it is still loading its data"
        case exceptions.InvalidResponse():
            return f"the server there does not speak the Redis protocol; check {_URL}"
        case exceptions.ConnectionError():
            return _connection(error)
        case exceptions.ResponseError():
            return _refusal(text)
        case _:
            return f"the client failed with {type(error).__name__}"


def _login(text: str) -> str:
    if "without any password" in text or "no password is set" in text:
        return f"it has no password, but {_URL} gives one"
    if "required" in text:
        return f"it requires a password; add it to {_URL}"
    return f"it refuses user or password of {_URL}"


def _connection(error: exceptions.ConnectionError) -> str:
    match error.__cause__ or error.__context__:
        case ssl.SSLCertVerificationError(verify_message=message):
            return f"its TLS certificate is not accepted ({message})"
        case ssl.SSLError(reason=reason):
            return f"TLS fails ({reason})"
        case OSError(errno=number, strerror=reason) if number is not None:
            return f"it can't be reached ({os.strerror(number) if number > 0 else reason})"
        case _ if "max number of clients" in str(error):
            return "it accepts no more clients; raise its maxclients"
        case _:
            return "it closes the connection"


def _refusal(text: str) -> str:
    """Redis repeats the command's arguments in some of its errors, after a quotation mark."""
    if text.startswith("MISCONF"):
        return "it accepts no writes because it can't save to its disk (MISCONF); its log says why"
    return f"it refuses ({text.split(chr(39))[0][:60].strip()})"
