"""A round-robin proxy in front of several nodes: nginx with its defaults, or a small one of our own."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from tests.redis_process import free_port, with_its_parent

_NGINX = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  upstream holdfast {{ {servers} }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://holdfast;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $http_host;
      proxy_buffering off;
    }}
  }}
}}
"""


@asynccontextmanager
async def round_robin(folder: Path, ports: Sequence[int], *, use_nginx: bool = True) -> AsyncIterator[str]:
    """URL of a proxy that gives each request (our own one: each connection) to the next of these ports."""
    program = shutil.which("nginx") if use_nginx else None
    folder.mkdir()  # noqa: ASYNC240 – nothing else runs yet
    async with _own(ports) if program is None else _nginx(program, folder, ports) as url:
        yield url


@asynccontextmanager
async def _nginx(program: str, folder: Path, ports: Sequence[int]) -> AsyncIterator[str]:
    port = free_port()
    servers = " ".join(f"server 127.0.0.1:{each};" for each in ports)
    configuration = folder / "nginx.conf"
    configuration.write_text(_NGINX.format(folder=folder, servers=servers, port=port))
    process = await asyncio.create_subprocess_exec(
        *with_its_parent(), program, "-c", str(configuration), "-p", str(folder), stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.wait()


@asynccontextmanager
async def _own(ports: Sequence[int]) -> AsyncIterator[str]:
    turns = itertools.cycle(ports)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            for port in itertools.islice(turns, len(ports)):
                with contextlib.suppress(ConnectionRefusedError):
                    onward_reader, onward_writer = await asyncio.open_connection("127.0.0.1", port)
                    async with asyncio.TaskGroup() as tasks:
                        tasks.create_task(_copy(reader, onward_writer))
                        tasks.create_task(_copy(onward_reader, writer))
                    break
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()
