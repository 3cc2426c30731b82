-- The ledger: an index of the lake, never the truth. Deleted or damaged, it is rebuilt from the lake.
-- Times are RFC 3339 text in UTC, partitions are YYYY-MM-DD, segment ends are HHMMSS. The checks are there for damage:
-- the integrity check at each start finds the values that break them, and the ledger is rebuilt.

-- Every raw file seen in the store. It is done when done_etag equals etag: its rows lie in the segment that ends at
-- done_end, which is another one than segment_end for a moment only, while a day is sealed or cut anew. letters is 1
-- where dead letters of it lie in the store, or may lie there from its former content.
CREATE TABLE IF NOT EXISTS raw_files (
    key           TEXT PRIMARY KEY,
    partition     TEXT NOT NULL,
    segment_start TEXT NOT NULL,
    segment_end   TEXT NOT NULL,
    time          TEXT NOT NULL CHECK (julianday(time) IS NOT NULL),
    size          INTEGER NOT NULL,
    etag          TEXT NOT NULL,
    last_modified TEXT NOT NULL CHECK (julianday(last_modified) IS NOT NULL),
    trace_id      TEXT NOT NULL,
    seen_at       TEXT NOT NULL CHECK (julianday(seen_at) IS NOT NULL),
    done_etag     TEXT,
    done_end      TEXT,
    done_at       TEXT,
    md5           TEXT,
    lines         INTEGER,
    rows          INTEGER,
    rejected      INTEGER,
    letters       INTEGER NOT NULL DEFAULT 0 CHECK (letters IN (0, 1)),
    CHECK (lines = rows + rejected AND min(size, lines, rows, rejected) >= 0)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS raw_files_by_segment ON raw_files (partition, segment_end);

-- One row for each Parquet file a layer has or should have. It is dirty while wanted > done.
CREATE TABLE IF NOT EXISTS segments (
    partition       TEXT NOT NULL,
    segment_end     TEXT NOT NULL,
    segment_start   TEXT NOT NULL,
    wanted          INTEGER NOT NULL,
    done            INTEGER NOT NULL DEFAULT 0,
    processed_etag  TEXT,
    processed_size  INTEGER,
    enhanced_etag   TEXT,
    enhanced_size   INTEGER,
    PRIMARY KEY (partition, segment_end),
    CHECK (date(partition) IS NOT NULL AND 0 <= done AND done <= wanted),
    CHECK (segment_start GLOB '[0-2][0-9][0-5][0-9]00' AND segment_end GLOB '[0-2][0-9][0-5][0-9]59'),
    CHECK (segment_start < segment_end AND segment_end < '24')
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS segments_dirty ON segments (partition) WHERE wanted > done;
CREATE INDEX IF NOT EXISTS segments_without_file ON segments (partition) WHERE enhanced_etag IS NULL;

-- Days that are over and lie in one file a layer.
CREATE TABLE IF NOT EXISTS sealed (
    partition TEXT PRIMARY KEY CHECK (date(partition) IS NOT NULL)
) WITHOUT ROWID;

-- Parquet files below our layers that are not ours (a predecessor's): never counted, never touched.
CREATE TABLE IF NOT EXISTS foreign_objects (
    key  TEXT PRIMARY KEY,
    etag TEXT NOT NULL
) WITHOUT ROWID;

-- What was run, newest last; `backoff` keeps a failing partition from being tried at every poll.
CREATE TABLE IF NOT EXISTS runs (
    run_id      TEXT PRIMARY KEY,
    partition   TEXT NOT NULL,
    started_at  TEXT NOT NULL,
    finished_at TEXT NOT NULL,
    outcome     TEXT NOT NULL,
    segments    INTEGER NOT NULL,
    files       INTEGER NOT NULL,
    lines       INTEGER NOT NULL,
    rows        INTEGER NOT NULL,
    rejected    INTEGER NOT NULL,
    error       TEXT,
    traces      TEXT NOT NULL CHECK (json_valid(traces))
);
CREATE TABLE IF NOT EXISTS backoff (
    partition TEXT PRIMARY KEY,
    failures  INTEGER NOT NULL,
    retry_at  TEXT NOT NULL CHECK (julianday(retry_at) IS NOT NULL),
    error     TEXT NOT NULL
) WITHOUT ROWID;

-- Single facts: `reconciled_at`, when the ledger last agreed with the whole lake.
CREATE TABLE IF NOT EXISTS facts (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL CHECK (julianday(value) IS NOT NULL)
) WITHOUT ROWID;

-- The last snapshot that was taken over from the feed.
CREATE TABLE IF NOT EXISTS fetch_state (
    id    INTEGER PRIMARY KEY CHECK (id = 1),
    state TEXT NOT NULL CHECK (json_valid(state))
);
