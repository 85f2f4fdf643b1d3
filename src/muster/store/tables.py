"""The tables (spec/04), one schema for SQLite and PostgreSQL. Times are epoch ms; `*_id` are UUIDv7 texts.

A change here needs a migration beside it (`migrations/versions/`): a test compares the two.
"""

from typing import Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Computed,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)

metadata: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# A version of a workflow is never changed nor deleted: a run is pinned to one (R0.3).
workflows = Table(
    "workflows",
    metadata,
    Column("workflow_id", String(128), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False),
    Column("steps_count", Integer, nullable=False),
    Column("definition", JSON, nullable=False),
    Column("content_hash", String(64), nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

runs = Table(
    "runs",
    metadata,
    Column("run_id", String(36), primary_key=True),
    Column("workflow_id", String(128), nullable=False),
    Column("version", Integer, nullable=False),
    Column("video_id", Text),
    Column("trigger", String(16), nullable=False),
    Column("status", String(32), nullable=False),
    # 0 wants a person's eye (failed, or not ended yet), 1 does not: the list shows the former first.
    Column(
        "attention",
        Integer,
        Computed("CASE WHEN status IN ('queued', 'running', 'failed') THEN 0 ELSE 1 END", persisted=True),
    ),
    Column("params", JSON, nullable=False),
    Column("timeout_overrides", JSON, nullable=False),
    Column("global_timeout_ms", Integer, nullable=False),
    Column("max_attempts", Integer, nullable=False),
    Column("target", JSON, nullable=False),
    Column("metadata", JSON, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("started_at", BigInteger),
    Column("ended_at", BigInteger),
    Column("stop_requested_at", BigInteger),
    ForeignKeyConstraint(["workflow_id", "version"], ["workflows.workflow_id", "workflows.version"]),
    Index(None, "attention", "run_id"),
    Index(None, "workflow_id", "run_id"),
)

# `last_seq` orders what is displayed (state, step); `started_seq` and `artifact_seq` order two facts that may come
# late and still belong to the record. A node's times are for display only.
device_tasks = Table(
    "device_tasks",
    metadata,
    Column("task_id", String(36), primary_key=True),
    Column("run_id", String(36), ForeignKey("runs.run_id"), nullable=False),
    Column("node_id", String(64), nullable=False),
    Column("device_id", String(128), nullable=False),
    Column("runtime_handle", String(256)),
    Column("status", String(32), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("last_seq", Integer, nullable=False, server_default=text("0")),
    Column("started_seq", Integer, nullable=False, server_default=text("0")),
    Column("artifact_seq", Integer, nullable=False, server_default=text("0")),
    Column("step_id", String(64)),
    Column("phase", String(64)),
    Column("step_index", Integer),
    Column("steps_total", Integer),
    Column("wait_until", BigInteger),
    Column("failure_reason", String(64)),
    Column("error_message", Text),
    Column("failed_steps", JSON, nullable=False),
    # Ended by the backend because its node was silent; the node's own word replaces it (spec/03).
    Column("presumed", Boolean, nullable=False, server_default=false()),
    Column("started_at", BigInteger),
    Column("ended_at", BigInteger),
    Column("duration_ms", BigInteger),
    Column("artifact_id", String(36)),
    Column("updated_at", BigInteger, nullable=False),
    UniqueConstraint("run_id", "device_id"),
    Index(None, "run_id", "status"),
)

# The last word on each step of each attempt, by `seq`.
step_results = Table(
    "step_results",
    metadata,
    Column("task_id", String(36), ForeignKey("device_tasks.task_id"), primary_key=True),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    Column("step_id", String(64), primary_key=True),
    Column("seq", Integer, nullable=False),
    Column("step_index", Integer, nullable=False),
    Column("phase", String(64), nullable=False),
    Column("status", String(16), nullable=False),
    Column("try_number", Integer, nullable=False),
    Column("started_at", BigInteger),
    Column("ended_at", BigInteger),
    Column("duration_ms", BigInteger),
    Column("exit_code", BigInteger),
    Column("failure_reason", String(64)),
    Column("error_message", Text),
    Column("log_snippet", Text),
    Column("received_at", BigInteger, nullable=False),
)

artifacts = Table(
    "artifacts",
    metadata,
    Column("artifact_id", String(36), primary_key=True),
    Column("task_id", String(36), ForeignKey("device_tasks.task_id"), nullable=False),
    Column("step_id", String(64), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("storage_path", Text, nullable=False),
    # Two keys that differ in case alone are one file on Windows and macOS.
    Column("storage_path_folded", Text, nullable=False, unique=True),
    Column("sha256", String(64), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("taken_at", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    # Null until the store has confirmed the bytes.
    Column("stored_at", BigInteger),
    UniqueConstraint("task_id", "step_id", "sha256"),
)

devices = Table(
    "devices",
    metadata,
    Column("device_id", String(128), primary_key=True),
    Column("node_id", String(64), nullable=False),
    Column("runtime_handle", String(256)),
    Column("state", String(16), nullable=False),
    Column("last_seen_at", BigInteger),
    Column("model", String(128)),
    Column("battery", Integer),
    Column("temperature", Float),
    Column("last_error_message", Text),
)

nodes = Table(
    "nodes",
    metadata,
    Column("node_id", String(64), primary_key=True),
    Column("last_heartbeat_at", BigInteger),
    Column("agent_version", String(64)),
    Column("connected_devices_count", Integer, nullable=False),
    Column("running_devices_count", Integer, nullable=False),
    Column("queue_devices_count", Integer, nullable=False),
    Column("max_concurrency", Integer),
    Column("vendor_ws_ok", Boolean, nullable=False),
    Column("last_vendor_ws_ok_at", BigInteger),
    Column("outbox_depth", Integer, nullable=False),
    Column("degraded", Boolean, nullable=False),
)

node_commands = Table(
    "node_commands",
    metadata,
    Column("command_id", String(36), primary_key=True),
    Column("node_id", String(64), nullable=False),
    Column("run_id", String(36), ForeignKey("runs.run_id")),
    Column("type", String(32), nullable=False),
    Column("body", JSON, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("handed_to", String(64)),
    Column("handed_at", BigInteger),
    Column("acked_at", BigInteger),
    Column("error_message", Text),
    Index(None, "run_id"),
    Index(
        "ix_node_commands_open",
        "node_id",
        "command_id",
        sqlite_where=text("acked_at IS NULL"),
        postgresql_where=text("acked_at IS NULL"),
    ),
)

# The memory of seen events. Ids are time-ordered, so inserts go to the end of the tree.
callback_events = Table(
    "callback_events",
    metadata,
    Column("event_id", String(36), primary_key=True),
    Column("node_id", String(64), nullable=False),
    Column("type", String(32), nullable=False),
    Column("task_id", String(36)),
    Column("seq", Integer),
    Column("received_at", BigInteger, nullable=False),
    # It spoke of an attempt that was already over, and changed nothing.
    Column("stale", Boolean, nullable=False, server_default=false()),
    sqlite_with_rowid=False,
)

# Who had what done (spec/04). `answered_at`, `error_message`: what the node said to the command, where there is one.
audit_log = Table(
    "audit_log",
    metadata,
    Column("audit_id", String(36), primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("actor", String(128), nullable=False),
    Column("action", String(64), nullable=False),
    # A run or a phone.
    Column("subject", String(128), nullable=False),
    Column("node_id", String(64)),
    Column("detail", JSON, nullable=False),
    Column("command_id", String(36)),
    Column("answered_at", BigInteger),
    Column("error_message", Text),
    Index(None, "subject", "audit_id"),
    Index(None, "command_id"),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("key", String(200), primary_key=True),
    Column("body_hash", String(64), nullable=False),
    Column("run_id", String(36), ForeignKey("runs.run_id"), nullable=False),
    # The first answer is given again, word for word.
    Column("answer", JSON, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)
