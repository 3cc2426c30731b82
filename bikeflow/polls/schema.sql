-- The record of polls on this machine: of each system the rows of days that are not closed in the lake yet, and its newest.
-- Times are microseconds since 1970 (UTC). A later version that changes this file must take over the rows of this one:
-- those that are not `sent` lie nowhere else.
CREATE TABLE IF NOT EXISTS polls (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    system_id TEXT NOT NULL,
    due_at INTEGER NOT NULL,
    last_due_at INTEGER NOT NULL,
    previous_due_at INTEGER,
    interval_seconds REAL NOT NULL,
    outcome TEXT NOT NULL,
    polls INTEGER NOT NULL,
    started_at INTEGER,
    finished_at INTEGER,
    reason TEXT,
    error TEXT,
    status INTEGER,
    bytes INTEGER,
    attempts INTEGER,
    s3_source_key TEXT,
    -- 0: only here, 1: in the lake, 2: its day is closed there
    sent INTEGER NOT NULL DEFAULT 0,
    UNIQUE (system_id, due_at)
);

-- What tells this file from one that took its place.
CREATE TABLE IF NOT EXISTS identity (id TEXT NOT NULL);

INSERT INTO identity
SELECT hex(randomblob(8))
WHERE NOT EXISTS (SELECT 1 FROM identity);
