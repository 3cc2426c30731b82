-- The ledger: an index of the lake, never the truth. Deleted or damaged, it is rebuilt from the lake.
-- Times are RFC 3339 text in UTC, days are YYYY-MM-DD, segment ends are HHMMSS. The checks are there for damage: the
-- integrity check at each start finds the values that break them, and the ledger is rebuilt.

-- Every raw file seen in the store. It is done when done_etag equals etag: its rows lie in the segment that ends at
-- done_end, which differs from segment_end only for a moment, while a day is sealed or cut in other segments. letters is
-- 1 where dead letters of it lie in the store, or may lie there from its former content.
CREATE TABLE IF NOT EXISTS raw_files (
    system_id     TEXT NOT NULL,
    key           TEXT NOT NULL,
    day           TEXT NOT NULL,
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
    PRIMARY KEY (system_id, key),
    CHECK (lines = rows + rejected AND min(size, lines, rows, rejected) >= 0)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS raw_files_by_segment ON raw_files (system_id, day, segment_end);

-- Raw files that are not in the store any more. held: what was made of them is kept until they return or the operator
-- forgets them. gone: they were few, and what was made of them goes. forgotten: on the operator's command.
CREATE TABLE IF NOT EXISTS missing_raw_files (
    system_id TEXT NOT NULL,
    key       TEXT NOT NULL,
    day       TEXT NOT NULL,
    since     TEXT NOT NULL CHECK (julianday(since) IS NOT NULL),
    state     TEXT NOT NULL CHECK (state IN ('held', 'gone', 'forgotten')),
    PRIMARY KEY (system_id, key)
) WITHOUT ROWID;

-- One row for each Parquet file a layer has or should have. It is dirty while wanted > done.
CREATE TABLE IF NOT EXISTS segments (
    system_id       TEXT NOT NULL,
    day             TEXT NOT NULL,
    segment_end     TEXT NOT NULL,
    segment_start   TEXT NOT NULL,
    wanted          INTEGER NOT NULL,
    done            INTEGER NOT NULL DEFAULT 0,
    processed_etag  TEXT,
    processed_size  INTEGER,
    enhanced_etag   TEXT,
    enhanced_size   INTEGER,
    PRIMARY KEY (system_id, day, segment_end),
    CHECK (date(day) IS NOT NULL AND 0 <= done AND done <= wanted),
    CHECK (segment_start GLOB '[0-2][0-9][0-5][0-9]00' AND segment_end GLOB '[0-2][0-9][0-5][0-9]59'),
    CHECK (segment_start < segment_end AND segment_end < '24')
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS segments_dirty ON segments (system_id, day) WHERE wanted > done;
CREATE INDEX IF NOT EXISTS segments_without_file ON segments (system_id, day) WHERE enhanced_etag IS NULL;

-- Days that are over and lie in one file a layer.
CREATE TABLE IF NOT EXISTS sealed (
    system_id TEXT NOT NULL,
    day       TEXT NOT NULL CHECK (date(day) IS NOT NULL),
    PRIMARY KEY (system_id, day)
) WITHOUT ROWID;

-- Parquet files below our layers that are not ours (a predecessor's): never counted, never touched.
CREATE TABLE IF NOT EXISTS foreign_objects (
    system_id TEXT NOT NULL,
    key       TEXT NOT NULL,
    etag      TEXT NOT NULL,
    PRIMARY KEY (system_id, key)
) WITHOUT ROWID;

-- What was run, newest last; `backoff` keeps a failing partition from being tried at every poll.
CREATE TABLE IF NOT EXISTS runs (
    run_id      TEXT PRIMARY KEY,
    system_id   TEXT NOT NULL,
    day         TEXT NOT NULL,
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
    system_id TEXT NOT NULL,
    day       TEXT NOT NULL,
    failures  INTEGER NOT NULL,
    retry_at  TEXT NOT NULL CHECK (julianday(retry_at) IS NOT NULL),
    error     TEXT NOT NULL,
    PRIMARY KEY (system_id, day)
) WITHOUT ROWID;

-- Which lake the ledger knows of a system: in another one, nothing of it is missing.
CREATE TABLE IF NOT EXISTS lakes (
    system_id TEXT PRIMARY KEY,
    place     TEXT NOT NULL
) WITHOUT ROWID;

-- When the ledger last agreed with the whole lake of a system.
CREATE TABLE IF NOT EXISTS reconciliations (
    system_id     TEXT PRIMARY KEY,
    reconciled_at TEXT NOT NULL CHECK (julianday(reconciled_at) IS NOT NULL)
) WITHOUT ROWID;

-- The last snapshot that was taken over from each system's feed.
CREATE TABLE IF NOT EXISTS fetch_states (
    system_id TEXT PRIMARY KEY,
    state     TEXT NOT NULL CHECK (json_valid(state))
) WITHOUT ROWID;
