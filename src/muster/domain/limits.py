"""A name for every limit, with its unit last. Relations between limits are asserted at the bottom."""

from typing import Final

# Recipes and runs (spec/02, R1.6)
STEP_TIMEOUT_MS_MIN: Final = 5_000
STEP_TIMEOUT_MS_MAX: Final = 600_000
STEP_TIMEOUT_MS_DEFAULT: Final = 30_000
TASK_TIMEOUT_MS_MIN: Final = 60_000
TASK_TIMEOUT_MS_MAX: Final = 1_800_000
TASK_TIMEOUT_MS_DEFAULT: Final = 90_000
UPLOAD_TIMEOUT_MS_DEFAULT: Final = 30_000
UPLOAD_TIMEOUT_MS_MAX: Final = STEP_TIMEOUT_MS_MAX
RETRY_COUNT_MAX: Final = 10
# Before the second try of a step; before the third twice that, and so on.
STEP_RETRY_PAUSE_MS: Final = 500
MAX_ATTEMPTS_MAX: Final = 10
RECIPE_STEPS_MAX: Final = 200
WAIT_INTERVAL_MS_DEFAULT: Final = 1_000
WAIT_INTERVAL_MS_MIN: Final = 200
WAIT_INTERVAL_MS_MAX: Final = 60_000
# A path on a phone, as adb's file service takes it.
PHONE_PATH_CHARS_MAX: Final = 1_000
RECIPE_BYTES_MAX: Final = 512 * 1024
COMMAND_CHARS_MAX: Final = 16_384
PARAM_COUNT_MAX: Final = 100
PARAM_CHARS_MAX: Final = 8_192

# Node (R1.1-R1.3, R2.2, R8)
CONCURRENCY_PER_NODE_DEFAULT: Final = 20
CONCURRENCY_PER_NODE_MAX: Final = 200
DEVICES_PER_NODE_MAX: Final = 1_000
PREFLIGHT_TIMEOUT_MS: Final = 15_000
VENDOR_BOOT_WAIT_MS: Final = 5_000
VENDOR_LIST_INTERVAL_MS: Final = 5_000
ONLINE_WINDOW_SEC: Final = 30
HEARTBEAT_INTERVAL_SEC: Final = 10
DEVICE_GRACE_WAIT_MS: Final = 15_000
DEVICE_GRACE_WAIT_MS_MAX: Final = 600_000
# One look at a phone that is waited for: several fit into its grace.
GRACE_PROBE_TIMEOUT_MS: Final = 5_000
BATTERY_PERCENT_MIN: Final = 15
BATTERY_CELSIUS_MAX: Final = 45.0
RESERVATION_MINUTES_DEFAULT: Final = 60
RESERVATION_MINUTES_MAX: Final = 7 * 24 * 60
QUARANTINE_AFTER_FAILURES: Final = 3
QUARANTINE_CLEAN_PROBES: Final = 2
QUARANTINE_PROBE_SEC: Final = 30.0
QUARANTINE_PROBE_SEC_MAX: Final = 1_800.0
RECOVERIES_AT_ONCE: Final = 4
# Asking changes nothing, and a hub that dies makes twenty phones silent at once: each is to be asked within its grace.
SILENT_PHONES_ASKED_AT_ONCE: Final = 20
EMULATOR_GATE_WAIT_MS: Final = 60_000
# The last second of 2038-01-19 that mksh, with its 32-bit numbers, can compare (spec/10, the deadline fence).
PHONE_CLOCK_SEC_MAX: Final = 2**31 - 1

# Node and backend (spec/03)
PULL_WAIT_MS_DEFAULT: Final = 25_000
PULL_WAIT_MS_MAX: Final = 60_000
INSTANCE_TAKEOVER_SEC: Final = 60
NODE_LOST_AFTER_SEC_DEFAULT: Final = 600
# A stop that a node took note of ends its tasks within seconds; what is still open then, it does not know of.
STOP_OVERDUE_SEC: Final = 120
# A reboot that was asked for must not come days later, when the node is back.
DEVICE_ACTION_EXPIRY_SEC: Final = 600
# What a node has to do to its phones at most, besides its tasks; what is asked for above that is refused.
DEVICE_ORDERS_MAX: Final = 2_000
COMMAND_REDELIVERY_SEC: Final = 5
EVENT_BATCH_MAX: Final = 200
OUTBOX_RETRY_LADDER_SEC: Final = (1.0, 2.0, 5.0, 10.0, 30.0)
# A disk is near, and while it is full slots and phones are held: when there is room again, they go on at once.
JOURNAL_RETRY_LADDER_SEC: Final = (0.5, 1.0, 2.0)
DEGRADED_AFTER_FAILURES: Final = 5
UPLOAD_URL_TTL_SEC: Final = 300

# Journal, outbox and spool (spec/03, spec/07)
JOURNAL_WRITES_PENDING_MAX: Final = 1_000
JOURNAL_GROUP_MAX: Final = 200
# A step's progress goes to the disk with whatever is recorded next, or by itself after so long (docs/adr/0025).
JOURNAL_PROGRESS_WAIT_MS: Final = 250
JOURNAL_PROGRESS_WAITING_MAX: Final = 200
# Another program (a backup, a virus scanner) may hold the journal so long.
JOURNAL_BUSY_SEC: Final = 5.0
# A disk that hangs must not silence the node: a heartbeat's figures, and the events that go with it, wait only so long.
JOURNAL_ANSWER_SEC: Final = 5.0
OUTBOX_JOURNAL_SEC: Final = 15.0
JOURNAL_KEEP_DAYS: Final = 30
OUTBOX_TELEMETRY_EVENTS_MAX: Final = 100_000
OUTBOX_COALESCE_MS: Final = 3
# Twenty phones at work make 150 events a second: sent one by one, the requests would cost the agent more than the work.
OUTBOX_PACE_MS: Final = 200
# What is younger has half of each batch for itself, so that a backlog of days does not hide the present.
OUTBOX_FRESH_SEC: Final = 10
OUTBOX_AUTH_RETRY_SEC: Final = 30.0
DEAD_LETTERS_MAX: Final = 10_000
CALLBACK_BYTES_MAX: Final = 1024 * 1024
CALLBACK_TIMEOUT_SEC: Final = 30.0
SPOOL_BYTES_MAX: Final = 2 * 1024 * 1024 * 1024
# Files fetched from phones by `pull`: one of them, and all that a node keeps.
PULL_BYTES_MAX: Final = 64 * 1024 * 1024
PULLED_BYTES_MAX: Final = 2 * 1024 * 1024 * 1024
DEVICE_LOCK_WAIT_SEC: Final = 1_800.0

# When a node is not well (agent/observe/health.py, `muster doctor`)
BACKEND_SILENT_SEC: Final = 30.0
OUTBOX_OLD_SEC: Final = 120.0
# Times in the console, storage keys and sorting by time are off by that much; nothing is decided by a node's clock.
CLOCK_SKEW_MS_MAX: Final = 10_000
NODE_TROUBLES_MAX: Final = 32
DISK_BYTES_MIN: Final = 200 * 1024 * 1024
DISK_BYTES_LOW: Final = 2 * 1024 * 1024 * 1024

# Sizes at the edges
REQUEST_BODY_BYTES_MAX: Final = 4 * 1024 * 1024
REQUEST_BODY_SEC: Final = 90.0
ARTIFACT_BYTES_MAX: Final = 32 * 1024 * 1024
ARTIFACT_BODY_SEC: Final = 600.0
COMMAND_OUTPUT_BYTES_MAX: Final = 1024 * 1024
LOG_SNIPPET_CHARS_MAX: Final = 2_000
ERROR_MESSAGE_CHARS_MAX: Final = 1_000
PAGE_SIZE_DEFAULT: Final = 50
PAGE_SIZE_MAX: Final = 200

# Live stream (spec/08)
STREAM_COALESCE_MS: Final = 200
STREAM_HEARTBEAT_SEC: Final = 2
STREAM_STALE_SEC: Final = 5
STREAM_RETRY_MS: Final = 1_000
STREAM_RING_FRAMES_MAX: Final = 300
STREAM_RING_BYTES_MAX: Final = 8 * 1024 * 1024
STREAM_VIEWER_FRAMES_MAX: Final = 64
STREAM_VIEWERS_MAX: Final = 500

assert STEP_TIMEOUT_MS_MIN <= STEP_TIMEOUT_MS_DEFAULT <= STEP_TIMEOUT_MS_MAX
assert TASK_TIMEOUT_MS_MIN <= TASK_TIMEOUT_MS_DEFAULT <= TASK_TIMEOUT_MS_MAX
assert STEP_TIMEOUT_MS_MAX <= TASK_TIMEOUT_MS_MAX, "a single step may fill a task, never outlive it"
assert 2 * HEARTBEAT_INTERVAL_SEC < ONLINE_WINDOW_SEC, "one lost heartbeat is harmless (R8.6)"
assert DEVICES_PER_NODE_MAX <= DEVICE_ORDERS_MAX, "something can be asked of every phone at once"
assert CALLBACK_BYTES_MAX < REQUEST_BODY_BYTES_MAX, "a full batch and its envelope fit into one request"
assert UPLOAD_TIMEOUT_MS_MAX <= ARTIFACT_BODY_SEC * 1000, "a slow upload is given up by its node, as that is set"
assert ONLINE_WINDOW_SEC < NODE_LOST_AFTER_SEC_DEFAULT, "a node looks silent before it is given up"
assert PULL_WAIT_MS_MAX // 1000 <= INSTANCE_TAKEOVER_SEC, "a polling agent is never taken for a dead one"
assert HEARTBEAT_INTERVAL_SEC + OUTBOX_JOURNAL_SEC < ONLINE_WINDOW_SEC, "a node whose disk hangs stays in sight"
assert HEARTBEAT_INTERVAL_SEC < BACKEND_SILENT_SEC, "a backend that takes every other heartbeat is there"
assert SPOOL_BYTES_MAX <= DISK_BYTES_LOW, "while the store is away, the pictures have room"
assert 2 * STREAM_HEARTBEAT_SEC < STREAM_STALE_SEC, "one late heartbeat does not make a page look stale"
