"""The command `holdfast`: arguments in, an exit code out. The modules beside this one have the commands.

Every start imports all of them, so they import at the top only what is quick. What takes long (the settings, the HTTP
client, the database, the gateway) is imported by the function that needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, NoReturn

import typer

from holdfast import terminal
from holdfast.cli import (
    backups,
    chats,
    check,
    configuration,
    keys,
    lab,
    logs,
    messages,
    migration,
    moving,
    nodes,
    serving,
    sessions,
    watch,
    webhooks,
)
from holdfast.cli.examples import EXAMPLES
from holdfast.cli.exit_codes import GOOD, sentences

COMMANDS: Mapping[str, Mapping[str, Callable[..., object] | typer.Typer]] = {
    "Run it": {
        "serve": serving.serve,
        "settings": configuration.show_settings,
        "check": check.check,
        "keys": keys.keys,
        "fill-npm-cache": serving.fill_npm_cache,
    },
    "Cluster": {
        "nodes": nodes.nodes,
        "drain": nodes.drain,
    },
    "Sessions": {
        "pair": sessions.pair,
        "sessions": sessions.sessions,
        "show": sessions.show,
        "watch": watch.watch,
        "start": sessions.start,
        "stop": sessions.stop,
        "reconnect": sessions.reconnect,
        "logout": sessions.logout,
    },
    "Messages": {
        "send": messages.send,
        "messages": messages.messages,
        "inbox": messages.inbox,
        "message": chats.message,
        "chats": chats.chats,
        "contacts": chats.contacts,
        "check-numbers": chats.check_numbers,
        "groups": chats.groups,
        "group": chats.group,
        "webhooks": webhooks.webhooks,
        "logs": logs.logs,
    },
    "Backup and import": {
        "backup": backups.backup,
        "clear": backups.clear,
        "compact": backups.compact,
        "move": moving.move,
        "import": migration.import_device,
        "import-baileys": migration.import_baileys,
        "export-baileys": migration.export_baileys,
    },
    "Demonstration": {
        "demo": lab.demo,
        "lab": lab.lab,
    },
}
"""All commands by the heading that `holdfast --help` shows them under, in its order; a `Typer` has subcommands."""

cli = typer.Typer(
    no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False, rich_markup_mode="markdown"
)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The entry point. Errors become a sentence and an exit code. `arguments` None: those of this process."""
    terminal.replace_unencodable()
    with sentences():
        cli(arguments, prog_name="holdfast")
    raise SystemExit(GOOD)


def _show_version(requested: bool) -> None:
    if requested:
        from importlib.metadata import version

        terminal.print_stdout(f"holdfast {version('holdfast')}")
        raise typer.Exit(GOOD)


@cli.callback()
def holdfast(
    _: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="print the version and exit")
    ] = False,
) -> None:
    """Keep the WhatsApp sessions of many companies connected, and deliver every accepted message."""


def _register() -> None:
    for panel, commands in COMMANDS.items():
        for name, command in commands.items():
            if isinstance(command, typer.Typer):
                for each in command.registered_commands:
                    each.epilog = _example(f"{name} {each.name}")
                cli.add_typer(command, name=name, rich_help_panel=panel)
            else:
                cli.command(name, rich_help_panel=panel, epilog=_example(name))(command)


def _example(path: str) -> str | None:
    return f"Example: `{EXAMPLES[path]}`" if path in EXAMPLES else None


_register()
