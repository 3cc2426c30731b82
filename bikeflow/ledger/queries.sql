-- Every query of the ledger, by name. A line "-- name --" begins one; the comment below it says what it does.
-- :system_id, :day, :end and so on are parameters. INDEXED BY: without it SQLite goes through all rows of a system, as it
-- takes a system for a handful of rows.

-- observe_raw_file --
-- Take note of a raw file as the store now shows it.
INSERT INTO raw_files (
    system_id, key, day, segment_start, segment_end, time, size, etag, last_modified, trace_id, seen_at
)
VALUES (:system_id, :key, :day, :start, :end, :time, :size, :etag, :last_modified, :trace_id, :seen_at)
ON CONFLICT (system_id, key) DO UPDATE
SET segment_start = excluded.segment_start,
    segment_end = excluded.segment_end,
    time = excluded.time,
    size = excluded.size,
    etag = excluded.etag,
    last_modified = excluded.last_modified,
    trace_id = excluded.trace_id;

-- seen_raw_files --
-- What is known of those of the raw files :keys (a JSON list) that are known.
SELECT key, etag, size, time, segment_start, segment_end
FROM raw_files
WHERE system_id = :system_id
    AND key IN (SELECT value FROM json_each(:keys));

-- raw_files --
-- Those of the raw files :keys (a JSON list) that are known, with everything.
SELECT *
FROM raw_files
WHERE system_id = :system_id
    AND key IN (SELECT value FROM json_each(:keys));

-- raw_files_of_segment --
-- The raw files that belong to a segment.
SELECT *
FROM raw_files INDEXED BY raw_files_by_segment
WHERE system_id = :system_id
    AND day = :day
    AND segment_end = :end
ORDER BY key;

-- raw_files_of_days --
-- Keys of the raw files of a range of days.
SELECT key
FROM raw_files
WHERE system_id = :system_id
    AND day BETWEEN :first AND :last;

-- count_unprocessed --
-- Number of raw files of a range of days that are still to be processed.
SELECT count(*)
FROM raw_files
WHERE system_id = :system_id
    AND day BETWEEN :first AND :last
    AND done_etag IS NOT etag;

-- known_etags --
-- The ETag of every known raw file, by key.
SELECT key, etag
FROM raw_files
WHERE system_id = :system_id;

-- key_before_newest --
-- The key that has :count known keys behind it.
SELECT key
FROM raw_files
WHERE system_id = :system_id
ORDER BY key DESC
LIMIT 1 OFFSET :count;

-- trace_id --
-- The trace id of a raw file.
SELECT trace_id
FROM raw_files
WHERE system_id = :system_id
    AND key = :key;

-- lettered_keys --
-- Keys of the raw files that gave dead letters when they were processed.
SELECT key
FROM raw_files
WHERE system_id = :system_id
    AND letters
    AND done_etag = etag;

-- letters_found --
-- Dead letters of those of the raw files :keys (a JSON list) that are still to be processed lie in the store.
UPDATE raw_files
SET letters = 1
WHERE system_id = :system_id
    AND NOT letters
    AND done_etag IS NOT etag
    AND key IN (SELECT value FROM json_each(:keys));

-- processed_keys --
-- Keys of the raw files whose rows lie in their segment.
SELECT key
FROM raw_files
WHERE system_id = :system_id
    AND done_etag = etag;

-- forget_raw_file --
-- A raw file is gone from the store; gives the segment that it belonged to.
DELETE FROM raw_files
WHERE system_id = :system_id
    AND key = :key
RETURNING day, segment_end;

-- process_again --
-- A raw file counts as changed; gives the segment that it belongs to.
UPDATE raw_files
SET done_etag = NULL
WHERE system_id = :system_id
    AND key = :key
RETURNING day, segment_end;

-- process_day_again --
-- All raw files of a day count as changed.
UPDATE raw_files
SET done_etag = NULL
WHERE system_id = :system_id
    AND day = :day;

-- process_segment_again --
-- The raw files whose rows lay in a segment count as changed.
UPDATE raw_files INDEXED BY raw_files_by_segment
SET done_etag = NULL
WHERE system_id = :system_id
    AND day = :day
    AND done_end = :end;

-- raw_file_processed --
-- A run has processed a raw file.
UPDATE raw_files
SET done_at = iif(done_etag IS :etag, done_at, :now),
    done_etag = :etag,
    done_end = :end,
    md5 = :md5,
    lines = :lines,
    rows = :rows,
    rejected = :rejected,
    letters = :letters
WHERE system_id = :system_id
    AND key = :key;

-- adopt_raw_file --
-- A footer says what a raw file gave, whose content is still the same.
UPDATE raw_files
SET done_etag = etag,
    done_end = segment_end,
    md5 = :md5,
    lines = :lines,
    rows = :rows,
    rejected = :rejected,
    letters = :letters
WHERE system_id = :system_id
    AND key = :key
    AND etag = :etag
    AND day = :day
    AND segment_end = :end;

-- want_segment --
-- A segment is to be written, whether it was known before or not.
INSERT INTO segments (system_id, day, segment_end, segment_start, wanted)
VALUES (:system_id, :day, :end, :start, 1)
ON CONFLICT (system_id, day, segment_end) DO UPDATE
SET segment_start = excluded.segment_start,
    wanted = wanted + 1;

-- want_known_segment --
-- A segment is to be written if it is known.
UPDATE segments
SET wanted = wanted + 1
WHERE system_id = :system_id
    AND day = :day
    AND segment_end = :end;

-- want_segments_of_day --
-- All known segments of a day are to be written, but for the one that ends at :except_end.
UPDATE segments
SET wanted = wanted + 1
WHERE system_id = :system_id
    AND day = :day
    AND segment_end <> :except_end;

-- sealing_candidates --
-- The segments that decide whether a day before :before can be sealed: those of days that are not sealed, and those
-- beside a sealed one, with the time when their newest raw file was seen (asked of these only: each poll would otherwise
-- go through all raw files).
SELECT
    day,
    sealed.day IS NOT NULL AS is_sealed,
    wanted,
    done,
    (
        SELECT max(seen_at)
        FROM raw_files AS raw INDEXED BY raw_files_by_segment
        WHERE sealed.day IS NOT NULL
            AND (raw.system_id, raw.day, raw.segment_end) = (segments.system_id, segments.day, segments.segment_end)
    ) AS late_file_seen_at
FROM segments
LEFT JOIN sealed USING (system_id, day)
WHERE system_id = :system_id
    AND day < :before
    AND (sealed.day IS NULL OR segments.segment_end <> :day_end)
ORDER BY day;

-- sealed_days --
-- The sealed days.
SELECT day
FROM sealed
WHERE system_id = :system_id;

-- seal_day --
-- From now on the day is one segment.
INSERT OR IGNORE INTO sealed
VALUES (:system_id, :day);

-- move_raw_files --
-- All raw files of a day belong to the segment from :start to :end.
UPDATE raw_files INDEXED BY raw_files_by_segment
SET segment_start = :start,
    segment_end = :end
WHERE system_id = :system_id
    AND day = :day
    AND (segment_start, segment_end) <> (:start, :end);

-- forget_unwritten_segments --
-- Segments of a day that were never written.
DELETE FROM segments
WHERE system_id = :system_id
    AND day = :day
    AND processed_etag IS NULL
    AND enhanced_etag IS NULL;

-- due_days --
-- Days with dirty segments, but for those that failed lately and wait for their next try.
SELECT DISTINCT day
FROM segments INDEXED BY segments_dirty
LEFT JOIN backoff USING (system_id, day)
WHERE system_id = :system_id
    AND wanted > done
    AND coalesce(retry_at, '') <= :now
ORDER BY day;

-- dirty_days --
-- Days with dirty segments.
SELECT DISTINCT day
FROM segments INDEXED BY segments_dirty
WHERE system_id = :system_id
    AND wanted > done
ORDER BY day;

-- dirty_segments --
-- The dirty segments of a day.
SELECT *
FROM segments
WHERE system_id = :system_id
    AND day = :day
    AND wanted > done
ORDER BY segment_end;

-- written_segments --
-- The segments of a day that have an enhanced file.
SELECT *
FROM segments
WHERE system_id = :system_id
    AND day = :day
    AND enhanced_etag IS NOT NULL;

-- segment_objects --
-- The enhanced files that exist.
SELECT day, segment_end, segment_start, enhanced_etag, enhanced_size
FROM segments
WHERE system_id = :system_id
    AND enhanced_etag IS NOT NULL
ORDER BY day, segment_end;

-- set_segment_object --
-- A layer's file of a segment as it now lies in the store; null: there is none.
UPDATE segments
SET processed_etag = iif(:layer = 'processed', :etag, processed_etag),
    processed_size = iif(:layer = 'processed', :size, processed_size),
    enhanced_etag = iif(:layer = 'enhanced', :etag, enhanced_etag),
    enhanced_size = iif(:layer = 'enhanced', :size, enhanced_size)
WHERE system_id = :system_id
    AND day = :day
    AND segment_end = :end;

-- segment_done --
-- A run has fulfilled what was wanted of a segment when it began.
UPDATE segments
SET done = max(done, :wanted)
WHERE system_id = :system_id
    AND day = :day
    AND segment_end = :end;

-- forget_empty_segment --
-- A segment that is written, has no file, and that no raw file belongs to.
DELETE FROM segments
WHERE wanted = done
    AND enhanced_etag IS NULL
    AND system_id = :system_id
    AND day = :day
    AND segment_end = :end
    AND NOT EXISTS (
        SELECT 1
        FROM raw_files AS raw
        WHERE (raw.system_id, raw.day, raw.segment_end) = (segments.system_id, segments.day, segments.segment_end)
    );

-- adopt_segment --
-- A segment that was found in the store.
INSERT INTO segments (system_id, day, segment_end, segment_start, wanted)
VALUES (:system_id, :day, :end, :start, 1)
ON CONFLICT DO NOTHING;

-- segment_with_count --
-- Where a segment starts, and how many raw files belong to it.
SELECT
    segment_start,
    (
        SELECT count(*)
        FROM raw_files AS raw
        WHERE (raw.system_id, raw.day, raw.segment_end) = (segments.system_id, segments.day, segments.segment_end)
    ) AS files
FROM segments
WHERE system_id = :system_id
    AND day = :day
    AND segment_end = :end;

-- all_wanted_is_done --
-- What was found of a segment is all that is wanted of it.
UPDATE segments
SET done = wanted
WHERE system_id = :system_id
    AND day = :day
    AND segment_end = :end;

-- known_objects --
-- The files of a layer that we wrote or adopted.
SELECT
    day,
    segment_end,
    segment_start,
    iif(:layer = 'processed', processed_etag, enhanced_etag) AS etag
FROM segments
WHERE system_id = :system_id
    AND iif(:layer = 'processed', processed_etag, enhanced_etag) IS NOT NULL;

-- foreign_objects --
-- ETags of the files that are not ours, by key.
SELECT key, etag
FROM foreign_objects
WHERE system_id = :system_id;

-- forget_foreign_objects --
-- All of them.
DELETE FROM foreign_objects
WHERE system_id = :system_id;

-- add_foreign_object --
-- One of them.
INSERT INTO foreign_objects
VALUES (:system_id, :key, :etag);

-- totals --
-- Counts of a system, of one day or (:day is null) of all: raw files, those processed, lines, rows, rejected lines; and
-- its dirty segments.
SELECT
    count(*) AS raw_files,
    count(*) FILTER (WHERE done_etag = etag) AS processed_files,
    coalesce(sum(lines), 0) AS lines,
    coalesce(sum(rows), 0) AS rows,
    coalesce(sum(rejected), 0) AS rejected,
    (SELECT count(*) FROM segments INDEXED BY segments_dirty WHERE system_id = :system_id AND wanted > done) AS dirty_segments
FROM raw_files
WHERE system_id = :system_id
    AND (:day IS NULL OR day = :day);

-- set_reconciled --
-- The ledger now agrees with the system's whole lake.
INSERT OR REPLACE INTO reconciliations
VALUES (:system_id, :now);

-- reconciled_at --
-- When the ledger last agreed with the system's whole lake.
SELECT reconciled_at
FROM reconciliations
WHERE system_id = :system_id;

-- fetch_state --
-- The last snapshot of a system's feed.
SELECT state
FROM fetch_states
WHERE system_id = :system_id;

-- save_fetch_state --
-- The same, replaced.
INSERT OR REPLACE INTO fetch_states
VALUES (:system_id, :state);

-- add_run --
-- A run has ended.
INSERT INTO runs (
    run_id, system_id, day, started_at, finished_at, outcome, segments, files, lines, rows, rejected, error, traces
)
VALUES (
    :run_id, :system_id, :day, :started_at, :finished_at, :outcome, :segments, :files, :lines, :rows, :rejected,
    :error, :traces
);

-- forget_old_runs --
-- All runs but the newest :kept.
DELETE FROM runs
WHERE rowid <= (SELECT max(rowid) FROM runs) - :kept;

-- runs_since --
-- The newest :count runs after the one with this id, or of all where it is null or unknown; newest first.
SELECT *
FROM runs
WHERE rowid > coalesce((SELECT rowid FROM runs WHERE run_id = :run_id), 0)
ORDER BY rowid DESC
LIMIT :count;

-- latest_runs --
-- The newest runs, newest first.
SELECT *
FROM runs
ORDER BY rowid DESC
LIMIT :count;

-- failures --
-- How often in a row a partition has failed.
SELECT failures
FROM backoff
WHERE system_id = :system_id
    AND day = :day;

-- back_off --
-- A partition has failed, and waits.
INSERT OR REPLACE INTO backoff
VALUES (:system_id, :day, :failures, :retry_at, :error);

-- retry_partition --
-- A partition waits no more.
DELETE FROM backoff
WHERE system_id = :system_id
    AND day = :day;

-- retry_all --
-- No partition waits any more.
DELETE FROM backoff;

-- retry_system --
-- No partition of a system waits any more.
DELETE FROM backoff
WHERE system_id = :system_id;

-- failing_partitions --
-- Partitions whose last run failed, with the reason and the time of the next try.
SELECT *
FROM backoff
ORDER BY system_id, day;

-- files_without_rows --
-- The newest raw files of segments that have no Parquet file: no row, or not written yet. CROSS JOIN: the few segments
-- first, as SQLite would go through all raw files otherwise, which are in order.
SELECT raw.*
FROM segments
CROSS JOIN raw_files AS raw INDEXED BY raw_files_by_segment USING (system_id, day, segment_end)
WHERE enhanced_etag IS NULL
ORDER BY key DESC
LIMIT :count;
