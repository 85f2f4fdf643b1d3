"""Stopping a run, ends that were presumed of a silent node, events of stale attempts."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Adds columns with defaults: rows that exist were not stopped, not presumed and not stale."""
    op.add_column("runs", sa.Column("stop_requested_at", sa.BigInteger(), nullable=True))
    op.add_column("device_tasks", sa.Column("presumed", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("callback_events", sa.Column("stale", sa.Boolean(), server_default=sa.false(), nullable=False))
