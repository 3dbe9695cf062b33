"""Settings: environment variables `HOLDFAST_…` over `holdfast.toml` over defaults, frozen once read.

The one place that reads the environment. In the file a section's name and a key make the setting's name:
`[keepalive] interval_s = 30` is `HOLDFAST_KEEPALIVE_INTERVAL_S=30`.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, ValidationError

from holdfast.base.errors import Misconfigured

PREFIX = "HOLDFAST_"
FILE = Path("holdfast.toml")

Secret = Annotated[str, PlainSerializer(lambda _: "(set)")]


def _cache_dir() -> Path:
    base = os.environ.get("XDG_CACHE_HOME")  # noqa: TID251 – the one home
    return (Path(base) if base else Path.home() / ".cache") / "holdfast"


class Settings(BaseModel):
    """Everything that can be set. Durations are in the unit that the name ends with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field("127.0.0.1", description="address on which HTTP listens")
    port: int = Field(3000, ge=0, le=65535, description="port on which HTTP listens; 0 takes a free one")
    data_dir: Path = Field(Path("holdfast-data"), description="database, generated API key")
    cache_dir: Path = Field(default_factory=_cache_dir, description="where Baileys is installed, once for all")
    api_key: Secret | None = Field(
        None,
        description="keys for the API, separated by commas; KEY=company|company limits one to companies; "
        "unset: one is generated at the first start",
    )
    whatsapp_url: str | None = Field(
        None, pattern=r"^wss?://[^\s]+$", description="another server than WhatsApp's own, for tests; ws:// or wss://"
    )
    keepalive_interval_s: float = Field(30, ge=5, le=300, description="time between two pings of a quiet link")
    keepalive_presence: bool = Field(
        True,
        description="also tell WhatsApp that this device is in use; the phone then shows no notifications of its own",
    )
    backoff_base_ms: int = Field(1000, ge=100, le=60_000, description="delay of min(base * factor ** attempts, cap)")
    backoff_factor: float = Field(1.5, ge=1, le=10, description="factor of the same")
    backoff_cap_ms: int = Field(60_000, ge=1000, le=60_000, description="cap of the same, a minute at most")
    node_bin: Path | None = Field(None, description="another Node than the one that came with Holdfast")
    npm_cache: Path | None = Field(None, description="install Baileys from this npm cache, without a registry")
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$", description="debug, info, warning or error")
    url: str = Field(
        "http://127.0.0.1:3000", pattern=r"^https?://[^\s]+$", description="the running Holdfast that commands talk to"
    )


def load(environment: Mapping[str, str] | None = None, *, file: Path = FILE) -> Settings:
    """Read the settings. Raises `Misconfigured`, naming setting, value and what is allowed."""
    values = {**_from_file(file), **_from_environment(process_environment() if environment is None else environment)}
    try:
        return Settings(**values)
    except ValidationError as error:
        raise Misconfigured(_sentence(error, file, values)) from error


def origins(environment: Mapping[str, str] | None = None, *, file: Path = FILE) -> dict[str, str]:
    """Where each setting that is not a default came from."""
    found = dict.fromkeys(_from_file(file), str(file))
    env = process_environment() if environment is None else environment
    return found | dict.fromkeys(_from_environment(env), "environment")


def variable(name: str) -> str:
    """The environment variable of a setting: `data_dir` → `HOLDFAST_DATA_DIR`."""
    return PREFIX + name.upper()


def process_environment() -> Mapping[str, str]:
    """The environment of this process, as it is handed on to child processes."""
    return os.environ  # noqa: TID251 – the one home


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    return {name.removeprefix(PREFIX).lower(): value for name, value in environment.items() if name.startswith(PREFIX)}


def _from_file(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as opened:
            return dict(_flat(tomllib.load(opened)))
    except FileNotFoundError:
        return {}
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise Misconfigured(f"{file} can't be read: {error}") from error


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}_")
        else:
            yield f"{prefix}{key}", value


def _sentence(error: ValidationError, file: Path, values: Mapping[str, Any]) -> str:
    return "; ".join(_trouble(str(item["loc"][0]), item["type"], item["msg"], file, values) for item in error.errors())


def _trouble(name: str, kind: str, message: str, file: Path, values: Mapping[str, Any]) -> str:
    if kind == "extra_forbidden":
        return f"{variable(name)} is no setting of Holdfast: `holdfast settings` lists all (or take it out of {file})"
    shown = "(hidden)" if name == "api_key" else f'"{values[name]}"'
    meaning = Settings.model_fields[name].description
    return f"{variable(name)} is {shown}: {message.lower()} – {meaning}"
