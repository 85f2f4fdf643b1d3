"""The journal's statements on what operators asked of phones. Runs as those of `journal_tables.py` do."""

from muster.agent.journal_tables import Connection
from muster.agent.ports import DeviceOrder, ReserveTerms
from muster.contracts.commands import DeviceActionKind


def add(connection: Connection, order: DeviceOrder) -> None:
    """Kept until it has ended."""
    terms = order.terms
    connection.execute(
        "INSERT INTO orders (command_id, device_id, action, owner, reason, minutes, taken_at_ms)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            order.command_id,
            order.device_id,
            order.action,
            terms.owner if terms else None,
            order.reason,
            terms.minutes if terms else None,
            order.taken_at_ms,
        ),
    )


def all_open(connection: Connection) -> list[DeviceOrder]:
    """In the order of acceptance."""
    rows = connection.execute(
        "SELECT command_id, device_id, action, taken_at_ms, owner, reason, minutes FROM orders ORDER BY position"
    )
    return [
        DeviceOrder(
            command_id,
            device_id,
            DeviceActionKind(action),
            taken_at_ms,
            ReserveTerms(owner, reason, minutes) if owner is not None else None,
            reason,
        )
        for command_id, device_id, action, taken_at_ms, owner, reason, minutes in rows
    ]


def end(connection: Connection, command_id: str) -> bool:
    """False: it has ended already."""
    return connection.execute("DELETE FROM orders WHERE command_id = ?", (command_id,)).rowcount > 0
