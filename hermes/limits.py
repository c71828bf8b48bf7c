"""[P] Named bounds. Every queue, batch and loop has its limit here, with its reason."""

from __future__ import annotations

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

# --- subjects and names
SUBJECT_BYTES_MAX: Final = 512
SUBJECT_TOKENS_MAX: Final = 32
# A subject in the longest v1 encoding: JSON that escapes every character.
SUBJECT_WIRE_BYTES_MAX: Final = 4 * KIB
# What is remembered of subjects seen before. A route may be as long as the audience.
ROUTE_CACHE_MAX: Final = 65_536
MATCHERS_CACHED_MAX: Final = 4_096
SUBJECT_CACHE_MAX: Final = 8_192
CONSUMER_NAME_BYTES_MAX: Final = 256
QUEUE_GROUP_BYTES_MAX: Final = 256
QUEUE_GROUPS_MAX: Final = 16
FILTERS_MAX: Final = 64
MESSAGE_ID_BYTES_MAX: Final = 256
PRODUCER_ID_BYTES_MAX: Final = 64
REASON_BYTES_MAX: Final = 1024
HEADERS_MAX: Final = 64
HEADERS_BYTES_MAX: Final = 16 * KIB
CLIENT_NAME_BYTES_MAX: Final = 256

# --- messages and frames
MESSAGE_BYTES_DEFAULT: Final = MIB
MESSAGE_BYTES_MAX: Final = 64 * MIB
BATCH_MESSAGES_MAX: Final = 16_384
FRAME_BYTES_MIN: Final = 4 * MIB
# What a frame carries beside the messages of a single-message batch.
FRAME_OVERHEAD_BYTES: Final = 64 * KIB

# --- offsets
# Look-ups by offset search this far back; so no record's hull may be wider.
RECORD_HULL_MAX: Final = 65_536

# --- the log
QUEUE_PUBLISH_BYTES_MAX: Final = 64 * MIB
# What a publish that waits for its commit takes in memory beside its payload, as measured.
QUEUED_OVERHEAD_BYTES: Final = KIB
TRANSACTION_BYTES_MAX: Final = 8 * MIB
TRANSACTION_RECORDS_MAX: Final = 10_000
RESERVE_BYTES: Final = 16 * MIB
WAL_CHECKPOINT_BYTES: Final = 4 * MIB
# When no more than this is left the writer copies it itself, so that the WAL starts over;
WAL_LEFT_BYTES_MAX: Final = MIB
# beyond this too, whatever is left.
WAL_BYTES_MAX: Final = 64 * MIB
# What a WAL that starts over keeps of its file: room that is there need not be asked for.
WAL_KEPT_BYTES: Final = 16 * MIB
# Below this much free space publishes are refused: a full queue and its WAL still fit.
LOW_SPACE_BYTES: Final = 128 * MIB
# A compaction that found no room, or failed, is tried again after so long.
COMPACTION_RETRY_SECS: Final = 30.0
# Ids of subjects and consumers that the writer remembers per segment.
KEYS_CACHED_MAX: Final = 100_000
READER_CONNECTIONS_MAX: Final = 32
# A look-up under a filter merges the lines of up to so many keys; with more it walks
# the line of all publishes, so many entries per call.
FILTER_KEYS_MERGED_MAX: Final = 16
FILTER_WALK_MAX: Final = 20_000
# Filters, per segment, whose matching keys are remembered.
FILTERS_CACHED_MAX: Final = 256
# A search that no index serves walks so many records per call; what an index gives out of
# order is sorted when it is no more than so many.
SEARCH_WALK_MAX: Final = 100_000
# So few records are walked even where the index of offsets would do.
SEARCH_SHORT_MAX: Final = 500
SEARCH_SORTED_MAX: Final = 20_000
SEARCH_LINES_MERGED_MAX: Final = 64
# SQL for people: what SQLite may take in all, for one value, for the text of a statement;
# and how many of its steps lie between two looks at the clock.
SQL_MEMORY_BYTES_MAX: Final = 512 * MIB
SQL_VALUE_BYTES_MAX: Final = 256 * MIB
SQL_STATEMENT_BYTES_MAX: Final = MIB
SQL_STEPS_PER_CHECK: Final = 10_000
# Records at the end of the log whose chain is recomputed at open.
TAIL_CHECK_RECORDS: Final = 1_000
# Of their payloads, the newest ones that are hashed: 25 ms at most, were they cached.
TAIL_CHECK_PAYLOAD_BYTES: Final = 32 * MIB

# --- consumers
SETTLEMENT_RANGES_MAX: Final = 10_000
CREDIT_MESSAGES_DEFAULT: Final = 1_000
CREDIT_MESSAGES_MAX: Final = 1_000_000
CREDIT_BYTES_DEFAULT: Final = 64 * MIB
CREDIT_BYTES_MAX: Final = 1024 * MIB
WAITING_MAX: Final = 1_000_000
WINDOW_BATCHES_MAX: Final = 1_024
WINDOW_BYTES_MAX: Final = 8 * MIB
RELEASES_BEFORE_ALONE: Final = 3

# --- publishing
PRODUCER_SEQUENCES_KEPT: Final = 1_024
PRODUCERS_MAX: Final = 1_024
DEDUP_IDS_MAX: Final = 100_000

# --- live subscriptions
SUBSCRIPTIONS_MAX: Final = 100_000
LIVE_BUFFER_BYTES_MAX: Final = 64 * MIB
AUDIENCES_MAX: Final = 1_024
GROUP_TURNS_MAX: Final = 65_536

# --- the server
RING_BYTES_MAX: Final = 64 * MIB
# What a batch there takes beside its bytes, as measured: much more than a small message.
RING_OVERHEAD_BYTES: Final = 512
STREAMS_MAX: Final = 10_000
# Of one connection: grpc queues calls for the event loop before it looks at the limit
# above, and a peer that begins and cancels them without end would fill that queue.
STREAMS_PER_CONNECTION_MAX: Final = 256
# Read ahead of a stream: a frame and its successor's beginning.
STREAM_WINDOW_BYTES: Final = 4 * MIB
CONNECTIONS_MAX: Final = 10_000
# However few descriptors there are.
CONNECTIONS_MIN: Final = 16
# File descriptors that are the log's and Python's: segments with their WALs, readers, pipes.
DESCRIPTORS_RESERVED: Final = 256
# Answers waiting for a client that does not read them; then its requests wait too.
ANSWERS_WAITING_MAX: Final = 65_536
# Publish results in one response frame.
FRAME_RESULTS_MAX: Final = 8_192
# Signed checkpoints that wait for a sink; a newer one says all that an older one says.
CHECKPOINTS_WAITING_MAX: Final = 64
# What a delivery adds to a batch on its way out.
DELIVERY_OVERHEAD_BYTES: Final = 4 * KIB
# Message ids a v1 stream remembers as sent and not settled; older ones are looked up.
HELD_IDS_MAX: Final = 65_536
READER_THREADS_MAX: Final = 4
READ_BATCHES_MAX: Final = 1_024
# A backup begins a new segment when the active one holds more: what is sealed is copied once,
# and without a transaction that the WAL would have to wait for.
BACKUP_ROLL_BYTES: Final = 16 * MIB
# Half of what a modest disk writes: the other half is for the commits beside it.
BACKUP_BYTES_PER_SEC: Final = 64 * MIB
# A check of old segments shares the interpreter with serving: at this pace it takes 4 % of it
# where records are smallest, and less than 1 % with large batches.
SCRUB_BYTES_PER_SEC: Final = 4 * MIB
# The largest limit of a store's size that may be set: 1 EiB.
STORE_BYTES_MAX: Final = 1 << 60
# Batches that garbage collection holds against what is needed, per look-up: some 2 ms.
GC_BATCHES_PER_READ: Final = 250
# A store that is being freed may exceed its size by so much meanwhile.
STORE_SLACK_BYTES: Final = 64 * MIB
# Ranges of retired offsets that a plan shows per segment.
GC_RANGES_TOLD_MAX: Final = 100
# Consumers with metrics of their own: five series each, kept by whoever scrapes them.
METRICS_CONSUMERS_MAX: Final = 200
# Scrapes at a time; one is the rule.
METRICS_REQUESTS_MAX: Final = 4
ADMIN_PAGE_DEFAULT: Final = 100
ADMIN_PAGE_MAX: Final = 1_000


def frame_bytes_max(message_bytes_max: int) -> int:
    """The largest gRPC frame for a given message limit: one full message, or 4 MiB."""
    return max(FRAME_BYTES_MIN, message_bytes_max + FRAME_OVERHEAD_BYTES)


def check_relations() -> None:
    """Raise AssertionError if two bounds contradict each other. Called by a test."""
    assert BATCH_MESSAGES_MAX <= RECORD_HULL_MAX
    assert MESSAGE_BYTES_DEFAULT < FRAME_BYTES_MIN <= TRANSACTION_BYTES_MAX
    assert TRANSACTION_BYTES_MAX <= QUEUE_PUBLISH_BYTES_MAX
    assert WAL_LEFT_BYTES_MAX < WAL_CHECKPOINT_BYTES < WAL_KEPT_BYTES
    assert WAL_KEPT_BYTES < WAL_BYTES_MAX <= LOW_SPACE_BYTES
    assert QUEUE_PUBLISH_BYTES_MAX < LOW_SPACE_BYTES
    assert HEADERS_BYTES_MAX + DELIVERY_OVERHEAD_BYTES < FRAME_OVERHEAD_BYTES
    assert CREDIT_MESSAGES_DEFAULT <= CREDIT_MESSAGES_MAX
    assert 4 * READER_CONNECTIONS_MAX < DESCRIPTORS_RESERVED
