"""At the limit of connections, idle ones are closed first, and those without a key before others."""

from __future__ import annotations

from holdfast.api.connections import Connections


class Connection:
    def __init__(self) -> None:
        self.is_closed = False

    def close(self) -> None:
        self.is_closed = True


def opened(connections: Connections, count: int) -> list[Connection]:
    made = [Connection() for _ in range(count)]
    assert all(connections.opened(connection) for connection in made)
    return made


def test_idle_connections_without_a_key_make_room_for_others() -> None:
    """The one that has been idle longest is closed; a request in progress is never cut."""
    connections = Connections(3)
    busy, first, second = opened(connections, 3)
    connections.busy(busy)
    opened(connections, 1)
    assert [each.is_closed for each in (busy, first, second)] == [False, True, False]


def test_a_connection_with_a_key_is_closed_last() -> None:
    """It is closed last among idle ones, however long it has been idle."""
    connections = Connections(3)
    keyed, other, third = opened(connections, 3)
    for connection, is_keyed in ((keyed, True), (other, False), (third, False)):
        connections.busy(connection)
        connections.idle(connection, is_keyed=is_keyed)
    opened(connections, 2)
    assert [each.is_closed for each in (keyed, other, third)] == [False, True, True]


def test_a_request_without_a_key_makes_room_until_it_has_arrived() -> None:
    """Anybody can begin a body and never end it; uploads with a key, and complete requests, are never cut."""
    connections = Connections(3)
    upload, complete, endless = opened(connections, 3)
    connections.receiving(upload, is_keyed=lambda: True)
    connections.receiving(complete, is_keyed=lambda: False)
    connections.busy(complete)
    connections.receiving(endless, is_keyed=lambda: False)
    [connection] = opened(connections, 1)
    assert [each.is_closed for each in (upload, complete, endless)] == [False, False, True]
    connections.busy(connection)
    assert not connections.opened(Connection())


def test_where_all_are_busy_a_new_connection_is_refused() -> None:
    """It is refused until one of them is closed."""
    connections = Connections(2)
    busy = opened(connections, 2)
    for connection in busy:
        connections.busy(connection)
    assert not connections.opened(Connection())
    connections.closed(busy[0])
    assert connections.opened(Connection())


def test_without_a_limit_no_connection_is_closed() -> None:
    """0 means no limit."""
    assert not any(connection.is_closed for connection in opened(Connections(0), 5000))
