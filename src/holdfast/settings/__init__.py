"""Settings: environment variables `HOLDFAST_…` over `holdfast.toml` over defaults; read once, then frozen.

`groups.py` declares them, `loading.py` reads them, `explained.py` describes them to people.
"""

from holdfast.settings.loading import (
    FILE,
    PREFIX,
    Settings,
    load,
    origins,
    process_environment,
    unknown_setting,
    variable,
)

__all__ = [
    "FILE",
    "PREFIX",
    "Settings",
    "load",
    "origins",
    "process_environment",
    "unknown_setting",
    "variable",
]
