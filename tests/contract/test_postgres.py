"""PostgreSQL under the store: opening it, errors when it can't be used, group commit, and a server that stops."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, create_engine, event

from holdfast.base.clock import SystemClock
from holdfast.base.errors import Misconfigured
from holdfast.base.ids import SystemRandomSource
from holdfast.delivery.events import SESSION
from holdfast.session.engine import Commit, Decrypted, InboundMessage
from holdfast.store.company_locks import lock_company, lock_event_order
from holdfast.store.credentials import EngineRows
from holdfast.store.database import Database
from holdfast.store.events import EventRows, record
from holdfast.store.lookup import LookupRows
from holdfast.store.migrate import revisions
from holdfast.store.outbox import OutboxRows
from holdfast.store.postgres import SETTING, parse
from holdfast.store.search_indexer import SearchIndexer
from holdfast.store.sessions import SessionRows
from holdfast.store.tables import metadata
from tests.contract.rows import COMPANY, OTHER, T1, draft
from tests.contract.rows import record as session_record
from tests.contract.test_database import is_no_search_index
from tests.postgres_process import PASSWORD, PostgresProcess, running_postgres
from tests.redis_process import free_port
from tests.served import eventually

pytestmark = pytest.mark.slow


@pytest.fixture
def url(postgres: PostgresProcess) -> str:
    return postgres.new_migrated()


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    opened = Database(parse(url))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def mortal() -> Iterator[PostgresProcess]:
    """A server that tests may kill."""
    with running_postgres() as process:
        yield process


@pytest.fixture
async def shaken(mortal: PostgresProcess) -> AsyncIterator[Database]:
    """A database on it."""
    opened = Database(parse(mortal.new_migrated()))
    yield opened
    opened.close()


def insert(connection: Connection, id_: str) -> None:
    connection.exec_driver_sql("INSERT INTO signal_keys VALUES ('962302', 'session', %s, '{}')", (id_,))


async def put(database: Database, id_: str) -> None:
    await database.write(lambda connection: insert(connection, id_))


async def ids(database: Database) -> list[str]:
    def work(connection: Connection) -> list[str]:
        return list(connection.exec_driver_sql("SELECT id FROM signal_keys ORDER BY id").scalars())

    return await database.read(work)


# Opening.


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://",
        "postgresql://host",
        "postgresql://user:pass@host:port/db",
        "postgresql://user:pa@ss@host/db",
        "mysql://user:secret@host/db",
        "nonsense",
    ],
)
def test_a_malformed_address_is_reported_without_showing_it(text: str) -> None:
    """The sentence names the setting and shows the form; a password may be anywhere in what was given."""
    with pytest.raises(Misconfigured, match="postgresql://user:password@host:5432/database") as told:
        parse(text)
    assert SETTING in str(told.value)
    assert not any(part in str(told.value) for part in ("pa@ss", "secret", "nonsense"))


def test_connection_errors_are_reported_without_the_password(postgres: PostgresProcess) -> None:
    """With the server's own message, the setting, and what to do."""
    good = postgres.url()
    port = str(parse(good).port)
    for url, word in (
        (good.replace(port, str(free_port())), "refused"),
        (good.replace("p%40ss", "other"), "password authentication failed"),
        (postgres.url("missing"), 'database "missing" does not exist'),
        (good + "?sslmode=require", "SSL"),
        (good + "?no_such_option=1", "no_such_option"),
    ):
        with pytest.raises(Misconfigured, match=SETTING) as told:
            Database(parse(url))
        assert word in str(told.value)
        assert "other" not in str(told.value).replace("to another", "")
        assert PASSWORD not in str(told.value)


def test_a_user_without_the_right_to_create_tables_is_reported(postgres: PostgresProcess) -> None:
    """The error names the missing right."""
    url = postgres.new_database()
    with postgres.operator(url) as connection:
        connection.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        connection.execute("DROP ROLE IF EXISTS guest")
        connection.execute("CREATE ROLE guest LOGIN PASSWORD 'p@ss:w/rd'")
    with pytest.raises(Misconfigured, match=r"permission denied.*give its user permission to create tables"):
        Database(parse(url.replace("//holdfast:", "//guest:")))


def test_a_database_of_a_newer_version_is_refused_and_not_changed(url: str, postgres: PostgresProcess) -> None:
    """An older Holdfast could damage it."""
    with postgres.operator(url) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(Misconfigured, match="has version 9999, newer than this Holdfast"):
        Database(parse(url))


def test_processes_that_start_together_migrate_one_after_the_other(postgres: PostgresProcess) -> None:
    """Four processes open an empty database at once, and it has every migration once."""
    url = postgres.new_database()
    with ThreadPoolExecutor(4) as threads:
        opened = list(threads.map(lambda _: Database(parse(url)), range(4)))
    for database in opened:
        database.close()
    assert postgres.rows(url, "SELECT version_num FROM alembic_version") == [(revisions()[0],)]


def test_the_migrations_make_the_tables_that_the_code_knows(url: str) -> None:
    """By Alembic's comparison."""
    engine = create_engine(parse(url))
    with engine.connect() as connection:
        options = {"compare_type": True, "compare_server_default": True, "include_name": is_no_search_index}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []
    engine.dispose()


# Writing.


async def test_a_commit_waits_for_the_disk(database: Database, url: str, postgres: PostgresProcess) -> None:
    """Also where the server is configured to answer earlier; the server ends a transaction that is left idle."""
    with postgres.operator(url) as connection:
        connection.execute(f"ALTER DATABASE {url.rsplit('/', 1)[1]} SET synchronous_commit = off".encode())
    other = Database(parse(url))
    names = ("synchronous_commit", "idle_in_transaction_session_timeout")

    def shown(connection: Connection) -> list[object]:
        return [connection.exec_driver_sql(f"SHOW {name}").scalar() for name in names]

    assert await other.write(shown) == ["on", "4s"]
    other.close()


async def test_queued_writes_are_committed_together(database: Database, url: str, postgres: PostgresProcess) -> None:
    """Their rows have the same transaction number."""
    loop, entered, go = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def hold(_: Connection) -> None:
        loop.call_soon_threadsafe(entered.set)
        assert go.wait(3)

    held = database.write(hold)
    await entered.wait()
    writes = [asyncio.ensure_future(put(database, f"{each:03}")) for each in range(100)]
    await asyncio.sleep(0)
    go.set()
    await asyncio.gather(held, *writes)
    assert postgres.rows(url, "SELECT count(*), count(DISTINCT xmin::text) FROM signal_keys") == [(100, 1)]


async def test_a_failing_write_does_not_affect_others(database: Database) -> None:
    """The other writes of its group are stored, each once."""
    first = database.write(lambda connection: insert(connection, "a"))
    failed = database.write(lambda connection: connection.exec_driver_sql("SELECT 1 / 0"))
    second = database.write(lambda connection: insert(connection, "b"))
    results = await asyncio.gather(first, failed, second, return_exceptions=True)
    assert isinstance(results[1], sqlalchemy.exc.DataError)
    assert await ids(database) == ["a", "b"]


async def test_errors_contain_no_values(database: Database) -> None:
    """PostgreSQL quotes whole rows in its details, and errors go to the log."""
    rows = EngineRows(database, clock=SystemClock(), randomness=SystemRandomSource())
    message = InboundMessage(whatsapp_id="3A", chat="c", sender="s", type=None, text="a private text", sent_at_s=1)  # type: ignore[arg-type]  # what can't be stored
    commit = Commit(link=1, seq=1, decrypted=[Decrypted(ciphertext_sha256="0", plaintext="", message=message)])
    with pytest.raises(sqlalchemy.exc.IntegrityError, match="null value") as failed:
        await rows.commit("962302", commit)
    error: BaseException | None = failed.value
    while error is not None:
        assert "private" not in f"{error}{error.args}"
        error = error.__cause__ or error.__context__


async def test_deadlocked_writes_are_tried_again(url: str, postgres: PostgresProcess) -> None:
    """PostgreSQL rolls one of two transactions back; its writer sees no error."""
    one, two = Database(parse(url)), Database(parse(url))
    for id_ in ("a", "b"):
        await put(one, id_)
    both, begun = threading.Barrier(2), set[str]()

    def touch(connection: Connection, first: str, second: str) -> None:
        add = "UPDATE signal_keys SET value = value || '.' WHERE id = %s"
        connection.exec_driver_sql(add, (first,))
        if first not in begun:  # the retried transaction waits for nobody
            begun.add(first)
            both.wait(20)
        connection.exec_driver_sql(add, (second,))

    await asyncio.gather(
        one.write(lambda connection: touch(connection, "a", "b")),
        two.write(lambda connection: touch(connection, "b", "a")),
    )
    one.close()
    two.close()
    assert postgres.rows(url, "SELECT value FROM signal_keys") == [("{}..",), ("{}..",)]


# A server that stops.


async def test_writes_and_reads_continue_after_a_restart(shaken: Database, mortal: PostgresProcess) -> None:
    """Already the first write succeeds: one that was certainly not committed is retried once on a new connection."""
    await put(shaken, "a")
    mortal.stop(mode="immediate")
    mortal.start()
    await put(shaken, "b")
    assert await ids(shaken) == ["a", "b"]


async def test_writes_and_reads_wait_for_a_restarting_server(shaken: Database, mortal: PostgresProcess) -> None:
    """Writes are stored once, and reads see them; a restart of some seconds causes no error."""
    await put(shaken, "00")
    mortal.stop(mode="immediate")
    try:
        writes = [asyncio.ensure_future(put(shaken, f"{each:02}")) for each in range(1, 50)]
        read = asyncio.ensure_future(ids(shaken))
        await asyncio.sleep(0.5)
    finally:
        mortal.start()
    await asyncio.gather(*writes)
    assert "00" in await read
    assert await ids(shaken) == [f"{each:02}" for each in range(50)]


async def test_writes_fail_while_there_is_no_server(mortal: PostgresProcess) -> None:
    """When `patience_s` is over, all queued writes fail, without the password in the error; later ones are stored when
    the server is back.
    """
    shaken = Database(parse(mortal.new_migrated()), patience_s=0.3)
    await put(shaken, "a")
    mortal.stop(mode="immediate")
    try:
        failed = await asyncio.gather(*(put(shaken, f"{each}") for each in range(50)), return_exceptions=True)
        with pytest.raises(sqlalchemy.exc.OperationalError):
            await ids(shaken)
    finally:
        mortal.start()
    assert all(isinstance(error, sqlalchemy.exc.OperationalError) for error in failed)
    assert not any(PASSWORD in str(error) for error in failed)
    await put(shaken, "b")
    assert await ids(shaken) == ["a", "b"]
    shaken.close()


async def test_a_write_whose_connection_was_lost_is_stored_once(
    database: Database, url: str, postgres: PostgresProcess
) -> None:
    """The server ends the writer's connection during its transaction."""
    transitions = 0

    def work(connection: Connection) -> None:
        nonlocal transitions
        transitions += 1
        insert(connection, "a")
        if transitions == 1:
            pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
            postgres.rows(url, f"SELECT pg_terminate_backend({pid}, 1000)")
            insert(connection, "b")

    await database.write(work)
    assert transitions == 2
    assert await ids(database) == ["a"]


async def test_a_write_whose_commit_is_in_doubt_is_not_tried_again(
    database: Database, url: str, postgres: PostgresProcess
) -> None:
    """The connection is lost during the commit: it may have taken effect, and here it has."""
    transitions = 0

    def work(connection: Connection) -> None:
        nonlocal transitions
        transitions += 1
        insert(connection, f"{transitions}")

    def commit_and_lose(connection: Connection) -> None:
        pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        connection.exec_driver_sql("COMMIT")
        connection.exec_driver_sql("BEGIN")
        postgres.rows(url, f"SELECT pg_terminate_backend({pid}, 1000)")

    event.listen(sqlalchemy.Engine, "commit", commit_and_lose, once=True)
    with pytest.raises(sqlalchemy.exc.OperationalError):
        await database.write(work)
    assert transitions == 1
    assert await ids(database) == ["1"]
    await put(database, "2")
    assert await ids(database) == ["1", "2"]


class Gate:
    """A write that holds its transaction open until it may `go` on."""

    def __init__(self) -> None:
        self.entered, self.go = threading.Event(), threading.Event()

    def __call__(self, connection: Connection) -> None:
        self.entered.set()
        while not self.go.wait(0.5):
            connection.exec_driver_sql("SELECT 1")  # the server ends transactions that are idle for long


async def test_a_node_locks_the_order_of_events_only_for_writing_them(url: str) -> None:
    """While the other writes of a group are executed, another node adds events."""
    one, two = Database(parse(url)), Database(parse(url))
    gate = Gate()

    def add_and_hold(connection: Connection) -> None:
        record(connection, COMPANY, SESSION, {"n": 1}, chat=None, at=T1)
        gate(connection)

    held = one.write(add_and_hold, company=COMPANY)
    await asyncio.to_thread(gate.entered.wait, 5)
    async with asyncio.timeout(5):
        await EventRows(two).add(OTHER, SESSION, {"n": 2}, chat="", at=T1)
    gate.go.set()
    await held
    found = await EventRows(one).after(0, companies=None, limit=9)
    assert [json.loads(event.body)["n"] for event in found] == [2, 1]
    one.close()
    two.close()


async def test_nodes_wait_for_each_other_only_for_the_same_company(url: str, postgres: PostgresProcess) -> None:
    """A message of another company is accepted while a node holds one company; one of the same company waits."""
    one, two = Database(parse(url)), Database(parse(url))
    for company in (COMPANY, OTHER):
        await SessionRows(one).create(session_record(company))
    gate = Gate()

    def lock_and_hold(connection: Connection) -> None:
        lock_company(connection, COMPANY)
        gate(connection)

    outbox = OutboxRows(two, clock=SystemClock())
    held = one.write(lock_and_hold, company=COMPANY)
    await asyncio.to_thread(gate.entered.wait, 5)
    async with asyncio.timeout(5):
        await outbox.accept(draft(1, company=OTHER))
    waiting = asyncio.ensure_future(outbox.accept(draft(2)))

    async def waits() -> bool:
        return postgres.rows(url, "SELECT count(*) FROM pg_locks WHERE NOT granted") == [(1,)]

    await eventually(waits, within_s=10, what="an accept that waits for its company")
    gate.go.set()
    await held
    assert (await waiting).is_new
    one.close()
    two.close()


async def test_a_message_that_is_committed_late_is_found_by_a_search(url: str) -> None:
    """A message of another company has a higher number, and was indexed before."""
    one, two = Database(parse(url)), Database(parse(url))
    for company in (COMPANY, OTHER):
        await SessionRows(one).create(session_record(company))
    indexer = SearchIndexer(two, clock=SystemClock())
    lookup = LookupRows(two, indexer)
    group, commit = Gate(), Gate()
    gathering = one.write(group)
    await asyncio.to_thread(group.entered.wait, 5)
    late = asyncio.ensure_future(OutboxRows(one, clock=SystemClock()).accept(draft(1)))
    await asyncio.sleep(0)
    held = one.write(commit, company=COMPANY)
    group.go.set()
    await asyncio.to_thread(commit.entered.wait, 5)
    await OutboxRows(two, clock=SystemClock()).accept(draft(2, company=OTHER))
    for _ in range(3):
        await indexer.catch_up()
    commit.go.set()
    await asyncio.gather(gathering, late, held)
    for _ in range(3):
        await indexer.catch_up()
    found = await lookup.sent_messages(COMPANY, words="message", state=None, before=None, limit=9)
    assert [each.id for each in found] == ["msg_1"]
    one.close()
    two.close()


async def test_a_failed_write_releases_only_its_lock_on_events(url: str) -> None:
    """The server releases the lock with the savepoint; later writes of the group take it again."""
    database = Database(parse(url))
    entered, go = threading.Event(), threading.Event()

    def hold(_: Connection) -> None:
        entered.set()
        assert go.wait(3)

    def lock_and_fail(connection: Connection) -> None:
        lock_event_order(connection)
        raise LookupError

    def lock(connection: Connection) -> int:
        lock_event_order(connection)
        held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
        return int(connection.exec_driver_sql(held).scalar_one())

    held = database.write(hold)
    await asyncio.to_thread(entered.wait, 3)
    failed, locked = database.write(lock_and_fail), database.write(lock)
    go.set()
    await held
    with pytest.raises(LookupError):
        await failed
    assert await locked == 1
    database.close()
