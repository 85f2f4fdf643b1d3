from collections.abc import Mapping
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError
from sqlalchemy.schema import CreateIndex, CreateTable

from muster.store import schema
from muster.store.database import Database, sqlite_url
from muster.store.tables import metadata


async def test_the_migrated_schema_is_the_schema_of_the_tables(tmp_path: Path) -> None:
    def differences(connection: Connection) -> list[object]:
        options = {"compare_type": True, "compare_server_default": True}
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))

    def indexes_and_keys(connection: Connection) -> object:
        look = inspect(connection)
        asked = (look.get_indexes, look.get_unique_constraints, look.get_foreign_keys)
        return {name: sorted(_text(item) for ask in asked for item in ask(name)) for name in sorted(metadata.tables)}

    async with (
        Database(sqlite_url(tmp_path / "migrated.db")) as migrated,
        Database(sqlite_url(tmp_path / "made.db")) as made,
    ):
        await schema.upgrade(migrated)
        async with made.writing() as tx:
            await tx.run_sync(metadata.create_all)
        async with migrated.reading() as tx:
            assert await tx.run_sync(differences) == []
            by_migration = await tx.run_sync(indexes_and_keys)
        async with made.reading() as tx:
            assert await tx.run_sync(indexes_and_keys) == by_migration


async def test_upgrading_again_changes_nothing(tmp_path: Path) -> None:
    async with Database(sqlite_url(tmp_path / "one.db")) as database:
        await schema.upgrade(database)
        async with database.writing() as tx:
            await tx.execute(
                text("INSERT INTO callback_events VALUES ('e', 'PC-01', 'command_ack', NULL, NULL, 1, false)")
            )
        await schema.upgrade(database)
        async with database.reading() as tx:
            assert (await tx.execute(text("SELECT count(*) FROM callback_events"))).scalar_one() == 1


async def test_rows_of_the_first_release_are_neither_stopped_nor_presumed_nor_stale(tmp_path: Path) -> None:
    async with Database(sqlite_url(tmp_path / "old.db")) as database:
        async with database.writing() as tx:
            await tx.run_sync(schema.upgrade_to, "0001")
            await tx.execute(text("INSERT INTO callback_events VALUES ('e', 'PC-01', 'command_ack', NULL, NULL, 1)"))
        await schema.upgrade(database)
        async with database.reading() as tx:
            assert (await tx.execute(text("SELECT stale FROM callback_events"))).scalar_one() == 0


def test_the_tables_can_be_made_on_postgresql_too() -> None:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    for table in metadata.sorted_tables:
        assert "CREATE TABLE" in str(CreateTable(table).compile(dialect=dialect))
        for index in table.indexes:
            assert "CREATE" in str(CreateIndex(index).compile(dialect=dialect))


async def test_a_reference_to_what_is_not_there_is_refused(tmp_path: Path) -> None:
    async with Database(sqlite_url(tmp_path / "one.db")) as database:
        await schema.upgrade(database)
        with pytest.raises(IntegrityError, match="FOREIGN KEY"):
            async with database.writing() as tx:
                await tx.execute(text("INSERT INTO idempotency_keys VALUES ('k', 'h', 'no-such-run', '{}', 1)"))


def _text(item: Mapping[str, object]) -> str:
    """Conditions of partial indexes are objects that equal nothing but themselves."""
    options = {name: str(value) for name, value in dict(item.get("dialect_options", {})).items()}  # type: ignore[call-overload]
    return str(dict(item) | {"dialect_options": options})
