-- Every query of the record of polls, by name. A line "-- name --" begins one; the comment below it says what it does.

-- add_poll --
-- Add a row, or put it in place of the one that was due at the same time.
INSERT OR REPLACE INTO polls (
    system_id, due_at, last_due_at, previous_due_at, interval_seconds, outcome, polls, started_at, finished_at, reason,
    error, status, bytes, attempts, s3_source_key
)
VALUES (
    :system_id, :due_at, :last_due_at, :previous_due_at, :interval_seconds, :outcome, :polls, :started_at, :finished_at,
    :reason, :error, :status, :bytes, :attempts, :s3_source_key
);

-- adopt_poll --
-- Add a row that the lake has, unless it is known.
INSERT OR IGNORE INTO polls (
    system_id, due_at, last_due_at, previous_due_at, interval_seconds, outcome, polls, started_at, finished_at, reason,
    error, status, bytes, attempts, s3_source_key, sent
)
VALUES (
    :system_id, :due_at, :last_due_at, :previous_due_at, :interval_seconds, :outcome, :polls, :started_at, :finished_at,
    :reason, :error, :status, :bytes, :attempts, :s3_source_key, 1
);

-- newest_poll --
-- The row of a system that bikeflow added last; what it took over from the lake came before.
SELECT *
FROM polls
WHERE system_id = :system_id
ORDER BY last_due_at DESC
LIMIT 1;

-- first_poll --
-- The row of a system with which its record begins here, if it has no predecessor.
SELECT *
FROM polls
WHERE system_id = :system_id
    AND previous_due_at IS NULL
ORDER BY due_at
LIMIT 1;

-- open_days --
-- The days of a system (as days since 1970) that are not closed in the lake, and how many rows are not there yet.
SELECT due_at / 86400000000 AS day, sum(sent = 0) AS unsent
FROM polls
WHERE system_id = :system_id
    AND sent < 2
GROUP BY day
ORDER BY day;

-- polls_of_day --
-- The rows of a system that were due from :first until before :next, and ended before :until.
SELECT *
FROM polls
WHERE system_id = :system_id
    AND due_at >= :first
    AND due_at < :next
    AND coalesce(finished_at, last_due_at) < :until
ORDER BY due_at;

-- mark_sent --
-- These rows, by their numbers (a JSON list), are in the lake.
UPDATE polls
SET sent = max(sent, :sent)
WHERE number IN (SELECT value FROM json_each(:numbers));

-- forget_polls --
-- Remove rows, by their numbers (a JSON list), but for the system's newest.
DELETE FROM polls
WHERE number IN (SELECT value FROM json_each(:numbers))
    AND last_due_at < (SELECT max(last_due_at) FROM polls WHERE system_id = :system_id);

-- polls_since --
-- All rows after this number.
SELECT *
FROM polls
WHERE number > :number
ORDER BY number;

-- stored_as --
-- The row of the snapshot that was to be stored under this key.
SELECT *
FROM polls
WHERE system_id = :system_id
    AND s3_source_key = :key
    AND outcome = 'stored';

-- identity --
-- What tells this file from another.
SELECT id
FROM identity;
