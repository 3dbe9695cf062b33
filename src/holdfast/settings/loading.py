"""Reads the settings from the environment and the file, and reports in one sentence what is invalid.

The only module that reads the environment. In the file, the name of a section and a key make the setting's name:
`[keepalive] interval_s = 30` is `HOLDFAST_KEEPALIVE_INTERVAL_S=30`. An empty value counts as unset.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from holdfast.base.errors import BadSetting
from holdfast.settings.explained import allowed, meaning
from holdfast.settings.groups import (
    BackupsSettings,
    DeliverySettings,
    EngineSettings,
    LinksSettings,
    ListeningSettings,
    PacingSettings,
    QuotasSettings,
    ReportingSettings,
    RetentionSettings,
    StorageSettings,
)

PREFIX = "HOLDFAST_"
FILE = Path("holdfast.toml")

_EVERY_ADDRESS = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 – only compared with
"""The address at which a server that listens on every address is reached from its own machine."""


class Settings(
    ListeningSettings,
    StorageSettings,
    LinksSettings,
    PacingSettings,
    QuotasSettings,
    DeliverySettings,
    RetentionSettings,
    ReportingSettings,
    BackupsSettings,
    EngineSettings,
    BaseSettings,
):
    """All settings. `load` reads them; the constructor uses only what it is given."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, validate_default=False, extra="forbid", frozen=True, hide_input_in_errors=True
    )

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, *_: object, **__: object
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)

    @property
    def spool_dir(self) -> Path:
        """The folder for media that an engine host sends or has downloaded."""
        return (self.data_dir / "spool").absolute()

    @property
    def server_url(self) -> str:
        """The URL at which commands find the running Holdfast."""
        return self.url if self.url is not None else self.own_url(self.port)

    @property
    def version_url(self) -> str:
        """Where the client version is read. With a server other than WhatsApp's own, the real site is never asked."""
        if self.whatsapp_web_url is not None:
            return self.whatsapp_web_url
        if self.whatsapp_url is None:
            return "https://web.whatsapp.com"
        parts = urlsplit(self.whatsapp_url)
        return f"{parts.scheme.replace('ws', 'http', 1)}://{parts.netloc}"

    def node_at(self, port: int) -> str:
        """The name of a process that listens on that port. Several may share a machine, so a name that is not
        configured includes the port."""
        return self.node if "node" in self.model_fields_set else f"{self.node}:{port}"

    def own_url(self, port: int) -> str:
        """The URL of a server on that port, as seen from this machine."""
        host = _EVERY_ADDRESS.get(self.host, self.host)
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def load(environment: Mapping[str, str] | None = None, *, file: Path = FILE) -> Settings:
    """Read the settings. Raises `BadSetting`, naming the setting, the value and what is allowed."""
    environment = process_environment() if environment is None else environment
    from_file, from_environment = _from_file(file), _Environment(environment)()
    values = from_file | from_environment
    places = dict.fromkeys(from_file, f" (in {file})") | dict.fromkeys(from_environment, "")
    wrong = [f"{variable(name)}{place} {unknown_setting(name)}" for name, place in _unknown(environment, places)]
    known = {name: value for name, value in values.items() if name in Settings.model_fields}
    try:
        settings = Settings(**_cache_home(environment) | known)
    except ValidationError as error:
        names = [str(each["loc"][0]) for each in error.errors()]
        wrong += [f"{variable(name)}{places[name]} {_unusable(name, values[name])}" for name in names]
        raise BadSetting("; ".join(wrong)) from error
    except RuntimeError as error:  # Path.home(), Path.expanduser()
        raise BadSetting(f"{error} Set {variable('cache_dir')}, and write no ~ in settings") from error
    if wrong:
        raise BadSetting("; ".join(wrong))
    _check_together(settings)
    return settings


def origins(environment: Mapping[str, str] | None = None, *, file: Path = FILE) -> dict[str, str]:
    """The origin of each setting that is not a default."""
    environment = process_environment() if environment is None else environment
    return dict.fromkeys(_from_file(file), str(file)) | dict.fromkeys(_Environment(environment)(), "environment")


def variable(name: str) -> str:
    """The environment variable of a setting: `data_dir` → `HOLDFAST_DATA_DIR`."""
    return PREFIX + name.upper()


def process_environment() -> Mapping[str, str]:
    """The environment of this process."""
    return os.environ  # noqa: TID251 – the one home


# Sources.


class _Environment(EnvSettingsSource):
    """Reads the variables that it is given instead of those of the process."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        super().__init__(Settings)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return {name.lower(): value for name, value in self._environment.items() if value}


def _cache_home(environment: Mapping[str, str]) -> dict[str, Any]:
    base = environment.get("XDG_CACHE_HOME")
    return {"cache_dir": Path(base) / "holdfast"} if base else {}


def _from_file(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as opened:
            return {name: value for name, value in _flat(tomllib.load(opened)) if value != ""}
    except FileNotFoundError:
        return {}
    except PermissionError as error:
        raise BadSetting(f"{file} can't be read by this user: run this as the user of Holdfast") from error
    except OSError as error:
        raise BadSetting(f"{file} can't be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadSetting(f"{file} is not TOML: {error}") from error


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        name = f"{prefix}{key}".lower()
        if isinstance(value, dict):
            yield from _flat(value, f"{name}_")
        else:
            yield name, value


def _check_together(settings: Settings) -> None:
    base, cap = settings.backoff_base_ms, settings.backoff_cap_ms
    if base > cap:
        raise BadSetting(
            f"{variable('backoff_base_ms')} is {base} and {variable('backoff_cap_ms')} is {cap}: "
            "the base may not be above the cap"
        )


# Sentences.


def _unknown(environment: Mapping[str, str], places: Mapping[str, str]) -> list[tuple[str, str]]:
    """Names that are not settings, and where they are set; the library ignores those in the environment."""
    named = {
        name.removeprefix(PREFIX).lower(): ""
        for name, value in environment.items()
        if name.startswith(PREFIX) and value
    }
    return [(name, place) for name, place in {**places, **named}.items() if name not in Settings.model_fields]


def unknown_setting(name: str) -> str:
    near = difflib.get_close_matches(name, Settings.model_fields, n=1)
    cure = f"do you mean {variable(near[0])}?" if near else "`holdfast settings` lists all settings"
    return f"is not a setting of Holdfast: {cure}"


def _unusable(name: str, value: object) -> str:
    field = Settings.model_fields[name]
    shown = f'"{value}"' if field.repr else "(hidden)"
    return f"is {shown}: give {allowed(field)} – {meaning(field)}"
