"""Runs migrations on the connection that `store/schema.py` hands over, inside its transaction."""

from alembic import context

from muster.store.tables import metadata

# Batch mode: SQLite cannot alter a column, so Alembic copies the table.
context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
context.run_migrations()
