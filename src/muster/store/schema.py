"""Brings a database to the newest schema by the migrations that are shipped with the package."""

from importlib.resources import as_file, files

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection

from muster.store.database import Database


async def upgrade(database: Database) -> None:
    """Applies every migration that is missing, in one transaction. Raises StoreUnavailableError."""
    async with database.writing() as tx:
        await tx.run_sync(upgrade_to)


def upgrade_to(connection: Connection, revision: str = "head") -> None:
    """Applies the migrations up to `revision`."""
    with as_file(files("muster.store") / "migrations") as folder:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", str(folder).replace("%", "%%"))
        newest = ScriptDirectory.from_config(config).get_current_head()
        # Asking first keeps a start quiet and quick, and leaves a database of the newest schema untouched.
        if MigrationContext.configure(connection).get_current_revision() != newest:
            command.upgrade(config, revision)
