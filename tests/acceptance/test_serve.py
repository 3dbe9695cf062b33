"""`holdfast serve` as a program: how it starts, how it stops, and its errors."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import stat
from pathlib import Path

import aiohttp
import pytest

from holdfast.client import connect
from tests.program import Program, environment, program

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("bridge")]

KEY = "a-key-of-a-test-of-serving"
NOWHERE = "ws://127.0.0.1:9"
ENDS_WITHIN_S = 6
"""Seconds from the signal to the end, with real Node; a quarter of it on an idle machine."""


async def url(running: Program) -> str:
    line = await running.until_printed("Holdfast listens on ")
    return line.removeprefix("Holdfast listens on ")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def alone(running: Program) -> bool:
    """Whether every process that it started has ended. Node exits within a moment when its pipe closes."""
    for _ in range(40):
        if not running.children():
            return True
        await asyncio.sleep(0.05)  # of another process; nothing here could tell
    return False


# The first start.


async def test_the_first_start_generates_a_key_and_private_files(tmp_path: Path) -> None:
    """The generated key works. The output is a pipe here, so it names the key's file, never the key. The second start
    does not mention it; whatever the umask, nothing in the data folder can be read by others.
    """
    (tmp_path / "data").mkdir()
    (tmp_path / "data").chmod(0o755)
    before = os.umask(0)
    try:
        async with program(tmp_path, "serve") as running:
            address = await url(running)
            key = (tmp_path / "data" / "api-key").read_text().strip()
            assert key not in "\n".join([*running.out, *running.err])
            assert f"The API key is in {Path('data', 'api-key')}; " in "\n".join(running.out)
            assert await running.until_printed("holdfast pair COMPANY")
            for step in ("Starting Holdfast ", "Creating the tables of the database "):
                assert any(step in line for line in running.err), step
            async with connect(address, key, only_holdfast=True) as client:
                await client.put("/v1/sessions/962302")
            assert {path.name for path in (tmp_path / "data").iterdir()} > {"api-key", "holdfast.db"}
            assert {path: mode(path) & 0o077 for path in (tmp_path / "data").iterdir() if mode(path) & 0o077} == {}
            running.send(signal.SIGTERM)
            assert await running.ends() == 0
        async with program(tmp_path, "serve") as running:
            await url(running)
            assert not any("hf_" in line for line in [*running.out, *running.err])
    finally:
        os.umask(before)


async def test_the_log_has_a_line_for_each_event_and_no_secret(tmp_path: Path) -> None:
    """At level DEBUG: time, level, event; neither the key nor texts of messages. Node, which runs other people's
    packages, does not know the key either.
    """
    async with program(
        tmp_path, "serve", HOLDFAST_API_KEY=KEY, HOLDFAST_LOG_LEVEL="debug", HOLDFAST_WHATSAPP_URL=NOWHERE
    ) as running:
        async with connect(await url(running), KEY) as client:
            await client.put("/v1/sessions/962302")
            await client.post("/v1/sessions/962302/messages", {"to": "962790000001", "text": "a secret text"})
        await running.until_printed("Session 962302 unpaired → pairing")
        (host,) = running.children()
        assert KEY.encode() not in environment(host)
        running.send(signal.SIGTERM)
        assert await running.ends() == 0
        for line in running.err:
            assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (DEBUG|INFO|WARNING) \S", line), line
        everything = "\n".join([*running.out, *running.err])
        for secret in (KEY, "a secret text", "962790000001"):
            assert secret not in everything


# The end.


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_stops_it_gracefully(tmp_path: Path, number: signal.Signals) -> None:
    """Exit code 0 and no Node left, although there are a session, a caller that waits for a QR code and an idle one."""
    async with program(tmp_path, "serve", HOLDFAST_API_KEY=KEY, HOLDFAST_WHATSAPP_URL=NOWHERE) as running:
        address = await url(running)
        headers = {"X-API-Key": KEY}
        async with aiohttp.ClientSession(headers=headers) as http, asyncio.TaskGroup() as tasks:
            await (await http.put(f"{address}/v1/sessions/962302")).release()
            waiting = tasks.create_task(http.get(f"{address}/v1/sessions/962302/qr"))
            await running.until_printed("Session 962302")
            await asyncio.sleep(0.2)  # until the request has been sent, which can't be seen from outside
            assert len(running.children()) == 1
            running.send(number)
            assert await running.ends(within_s=ENDS_WITHIN_S) == 0
            async with await waiting as answer:
                assert answer.status == 503
        assert await alone(running)
        levels = [line.split()[1] for line in running.err]
        assert "ERROR" not in levels
        assert "Holdfast is stopping: links are being closed" in running.err[-2]
        assert running.err[-1].endswith(" INFO Holdfast has stopped")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_before_the_engine_is_up(tmp_path: Path, number: signal.Signals) -> None:
    """While the engine host has sent nothing: exit code 0 all the same, and it is gone."""
    async with program(tmp_path, "serve", HOLDFAST_NODE_BIN=str(mute_node(tmp_path, ""))) as running:
        await _until_it_has_a_host(running, tmp_path)
        running.send(number)
        assert await running.ends(within_s=ENDS_WITHIN_S) == 0
        assert await alone(running)


async def test_a_second_ctrl_c_ends_it_at_once(tmp_path: Path) -> None:
    """Also while it waits for an engine host that doesn't end; a second SIGTERM does not have this effect."""
    node = mute_node(tmp_path, "signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    async with program(tmp_path, "serve", HOLDFAST_NODE_BIN=str(node)) as running:
        await _until_it_has_a_host(running, tmp_path)
        running.send(signal.SIGINT)
        await running.until_printed("Holdfast is stopping")
        running.send(signal.SIGTERM)
        await asyncio.sleep(0.3)  # real time, in which nothing may happen
        assert running.process.returncode is None
        running.send(signal.SIGINT)
        assert await running.ends(within_s=1) == -signal.SIGINT


async def test_a_signal_ends_it_while_baileys_is_being_installed(tmp_path: Path) -> None:
    """npm waits for a registry that doesn't answer: exit code 0 at once, npm is gone, no half installation is left."""
    asked = asyncio.Event()

    async def registry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await reader.read(-1)
        writer.close()

    server = await asyncio.start_server(registry, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, program(
        tmp_path, "serve", HOLDFAST_CACHE_DIR="cache", npm_config_registry=f"http://127.0.0.1:{port}",
        npm_config_cache=str(tmp_path / "npm"),
    ) as running:  # fmt: skip
        await asyncio.wait_for(asked.wait(), 30)
        running.send(signal.SIGTERM)
        assert await running.ends(within_s=ENDS_WITHIN_S) == 0
        assert await alone(running)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [".lock"]


async def test_it_ends_with_its_standard_input_when_requested(tmp_path: Path) -> None:
    """Typed text is ignored. Standard input that is a file can't be watched, and the error says so."""
    async with program(tmp_path, "serve", "--until-stdin-closes", stdin=asyncio.subprocess.PIPE) as running:
        await url(running)
        stdin = running.process.stdin
        assert stdin is not None
        stdin.write(b"hello\n")
        await stdin.drain()
        await asyncio.sleep(0.3)  # real time, in which nothing may happen
        assert running.process.returncode is None
        stdin.close()
        assert await running.ends(within_s=ENDS_WITHIN_S) == 0
        assert await alone(running)
    async with program(tmp_path, "serve", "--until-stdin-closes") as running:
        assert await running.ends() == 1
        assert running.err[-1].startswith("holdfast: --until-stdin-closes needs standard input to be a pipe")


async def test_node_is_gone_when_it_is_killed(tmp_path: Path) -> None:
    """After `kill -9` no process is left that could keep a link open."""
    async with program(tmp_path, "serve") as running:
        await url(running)
        assert len(running.children()) == 1
        running.send(signal.SIGKILL)
        assert await running.ends() == -signal.SIGKILL
        assert await alone(running)


# Failures.


async def said(folder: Path, code: int, *arguments: str, **settings: str) -> str:
    """The error of a program that exits with `code`; lines of progress may precede it."""
    async with program(folder, *(arguments or ("serve",)), stdin=asyncio.subprocess.DEVNULL, **settings) as running:
        assert await running.ends() == code, running.err
        assert running.err[-1].startswith("holdfast: "), running.err
        progress = re.compile("Installing|Filling|API key|INFO (Starting|Creating|Migrating) |WARNING Engine host: ")
        assert [line for line in running.err[:-1] if not progress.search(line)] == []
        return running.err[-1].removeprefix("holdfast: ")


async def test_a_failed_start_prints_one_sentence(tmp_path: Path) -> None:
    """With the exit code, one line and no traceback, run as a program, in which no test catches anything."""
    (tmp_path / "file").write_text("")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port, node, cache, mute, key, setting = await asyncio.gather(
            said(tmp_path / "1", 1, HOLDFAST_PORT=str(taken.getsockname()[1])),
            said(tmp_path / "2", 1, HOLDFAST_NODE_BIN="/nonexistent"),
            said(tmp_path / "3", 1, HOLDFAST_CACHE_DIR=str(tmp_path / "file")),
            said(tmp_path / "4", 1, HOLDFAST_NODE_BIN=str(broken_node(tmp_path))),
            said(tmp_path / "5", 2, HOLDFAST_API_KEY="short"),
            said(tmp_path / "6", 2, HOLDFAST_PORT="abc"),
        )
    assert "(Address already in use): stop the program that uses it, or set HOLDFAST_PORT" in port
    assert node.startswith("Node is missing: there is no /nonexistent.")
    assert "HOLDFAST_NODE_BIN" in node
    assert cache.startswith(f"Baileys can't be installed in {tmp_path / 'file'}: File exists. Set HOLDFAST_CACHE_DIR")
    assert mute == "The engine host ended at its start: the disk is on fire (exited with code 3)."
    assert key == "HOLDFAST_API_KEY has 5 characters: give at least 16"
    assert setting.startswith('HOLDFAST_PORT is "abc": give a whole number from 0 to 65535')


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HOLDFAST_REDIS_URL", "http://127.0.0.1"),
        ("HOLDFAST_ALERT_URLS", "nonsense"),
        ("HOLDFAST_WEBHOOK_SECRET", "abc"),
        ("HOLDFAST_BACKUP_RECIPIENTS", "nobody"),
        ("HOLDFAST_ALLOWED_ADDRESSES", "300.1.1.1"),
        ("HOLDFAST_DATABASE_URL", "postgresql://127.0.0.1"),
    ],
)
async def test_an_invalid_setting_ends_the_start_with_2(tmp_path: Path, name: str, value: str) -> None:
    """Also one that only a part of the gateway can judge."""
    assert name in await said(tmp_path, 2, **{name: value})


async def test_two_gateways_do_not_share_a_data_folder(tmp_path: Path) -> None:
    """The second is refused; the first continues."""
    async with program(tmp_path, "serve") as first:
        address = await url(first)
        sentence = await said(tmp_path, 1)
        assert sentence.startswith('the data folder "data" is in use by another holdfast process: stop that one')
        async with aiohttp.ClientSession() as http, http.get(f"{address}/healthz") as answer:
            assert answer.status == 200


async def test_without_a_registry_the_error_says_how_to_install_baileys(tmp_path: Path) -> None:
    """The sentence names the command that fills a cache and the setting that uses it; that command says the same."""
    unreachable = {"npm_config_registry": "http://127.0.0.1:9", "npm_config_cache": str(tmp_path / "npm")}
    install, fill, no_cache = await asyncio.gather(
        said(tmp_path / "1", 1, HOLDFAST_CACHE_DIR="cache", **unreachable),
        said(tmp_path / "2", 1, "fill-npm-cache", "filled", **unreachable),
        said(tmp_path / "3", 1, HOLDFAST_CACHE_DIR="cache", HOLDFAST_NPM_CACHE="nowhere"),
    )
    for sentence in (install, fill):
        assert "could not be installed: npm said: code ECONNREFUSED" in sentence
        assert "run `holdfast fill-npm-cache DIR` on a machine that reaches one" in sentence
        assert sentence.endswith("and set HOLDFAST_NPM_CACHE=DIR.")
    assert no_cache.endswith("is not a cache for Baileys: it was not made by `holdfast fill-npm-cache DIR`.")


# Programs in place of Node.


def mute_node(folder: Path, trap: str) -> Path:
    """Prints its version; as an engine host it sends nothing and does not exit."""
    return _script(
        folder,
        "#!/usr/bin/env python3\nimport pathlib, signal, sys, time\n"
        "if sys.argv[1] == '--version':\n    print('v24.0.0')\n    sys.exit()\n"
        f"{trap}\n"
        f"pathlib.Path({str(folder / 'host')!r}).touch()\n"
        "time.sleep(60)\n",
    )


def broken_node(folder: Path) -> Path:
    return _script(
        folder, '#!/bin/sh\n[ "$1" = --version ] && echo v24.0.0 && exit\necho the disk is on fire >&2\nexit 3\n'
    )


def _script(folder: Path, text: str) -> Path:
    script = folder / "node"
    script.write_text(text)
    script.chmod(0o755)
    return script


async def _until_it_has_a_host(running: Program, folder: Path) -> None:
    async with asyncio.timeout(30):
        while not (folder / "host").exists():  # noqa: ASYNC110 – of another process
            await asyncio.sleep(0.05)
    assert len(running.children()) == 1
