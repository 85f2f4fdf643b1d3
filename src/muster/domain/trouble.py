"""What can be wrong with a node: said by its agent, shown by whoever hears of it."""

from enum import StrEnum


class Trouble(StrEnum):
    """The closed list."""

    ADB_GONE = "adb_gone"
    DISK_FULL = "disk_full"
    JOURNAL_FAILS = "journal_fails"
    DISK_LOW = "disk_low"
    SPOOL_FULL = "spool_full"
    VENDOR_GONE = "vendor_gone"
    BACKEND_UNREACHABLE = "backend_unreachable"
    SECRET_REFUSED = "secret_refused"  # noqa: S105 - a name
    ANOTHER_AGENT = "another_agent"
    OUTBOX_OLD = "outbox_old"
    CLOCK_WRONG = "clock_wrong"
    BOOK_LOST = "book_lost"

    @property
    def stops_work(self) -> bool:
        """No run can be done while it lasts; with all the others the node goes on, and tells later."""
        return self in (Trouble.ADB_GONE, Trouble.DISK_FULL, Trouble.JOURNAL_FAILS)
