"""What a gateway acquires at startup before anything slow: data folder, database, port, keys."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from holdfast.api import keys
from holdfast.base.errors import BadInput, BadSetting, Misconfigured
from holdfast.base.ids import SystemRandomSource
from holdfast.base.private import read_or_create_private
from holdfast.notify.signing import checked_secret
from holdfast.settings import Settings, variable
from holdfast.store.database import Database
from holdfast.store.open_database import open_database
from holdfast.web.addresses import Allowed, parse_allowed


@dataclass(frozen=True, slots=True, kw_only=True)
class StartupClaims:
    """What a running gateway holds exclusively: data folder, database and port, with what was read from them."""

    settings: Settings
    database: Database
    listener: socket.socket
    known: keys.ApiKeys
    allowed: Allowed
    """Private addresses that media and webhooks may reach."""
    webhook_secret: str | None
    """Signs the webhooks of sessions that have none of their own."""


@contextlib.contextmanager
def claim(settings: Settings, *, key_made: Callable[[str, Path], None]) -> Iterator[StartupClaims]:
    """Take data folder, database and port before anything slow begins, so that their errors are reported at once.

    `key_made` is called with an API key that was just generated and the file it is stored in. Raises `Misconfigured`.
    """
    allowed = parse_allowed(settings.allowed_addresses or "")
    make_folder(settings.data_dir)
    webhook_secret = _webhook_secret(settings)
    with contextlib.closing(open_database(settings)) as database, _listen(settings) as listener:
        known = _keys(settings, key_made)
        yield StartupClaims(
            settings=settings,
            database=database,
            listener=listener,
            known=known,
            allowed=allowed,
            webhook_secret=webhook_secret,
        )


def _webhook_secret(settings: Settings) -> str | None:
    """That of the settings, or one that is made for this data folder; None where there is no webhook."""
    name, file = variable("webhook_secret"), settings.data_dir / "webhook-secret"
    if settings.webhook_secret is None and settings.webhook_url is not None:
        return read_or_create_private(file, SystemRandomSource().webhook_secret, what="the secret of webhooks")
    if settings.webhook_secret is not None:
        try:
            checked_secret(settings.webhook_secret, field=name)
        except BadInput as error:
            raise BadSetting(error.sentence, field=error.field) from error
    return settings.webhook_secret


def make_folder(folder: Path) -> None:
    """The data folder, its owner's alone. Raises `Misconfigured`."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        why, cure = str(error.strerror), "give the user of Holdfast permission to create it"
        if error.errno in {errno.EEXIST, errno.ENOTDIR}:
            why, cure = "there is a file with this name", "move it away"
        raise Misconfigured(
            f'the data folder "{folder}" can\'t be created ({why}): {cure}, '
            f"or set {variable('data_dir')} to another folder",
            field=variable("data_dir"),
        ) from error


def _keys(settings: Settings, key_made: Callable[[str, Path], None]) -> keys.ApiKeys:
    if settings.api_key is not None:
        return keys.parse(settings.api_key)
    file = settings.data_dir / keys.FILE
    key = keys.stored_key(settings.data_dir)
    if key is None:
        key = keys.make_key(settings.data_dir, SystemRandomSource())
        key_made(key, file)
    return keys.parse(key, source=str(file))


@contextlib.contextmanager
def _listen(settings: Settings) -> Iterator[socket.socket]:
    """The listening socket, bound before anything is started, so that a port in use is reported at once."""
    where = f"{settings.host} port {settings.port}"
    try:
        family, kind, _, _, address = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind)
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or "it is not a valid host name"
        raise Misconfigured(
            f"{where} is not an address to listen on ({why}): set {variable('host')}", field=variable("host")
        ) from error
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
            listener.listen(128)
        except OSError as error:
            raise _not_listening(where, error) from error
        yield listener


def _not_listening(where: str, error: OSError) -> Misconfigured:
    name, cure = "port", "set HOLDFAST_PORT to another port"
    if error.errno == errno.EADDRINUSE:
        cure = f"stop the program that uses it, or {cure}"
    elif error.errno == errno.EADDRNOTAVAIL:
        name, cure = "host", "set HOLDFAST_HOST to an address of this machine"
    return Misconfigured(f"can't listen on {where} ({error.strerror}): {cure}", field=variable(name))
