-- Every query of the ledger, by name. A line "-- name --" begins one; the comment below it says what it does.
-- :system_id, :day, :end and so on are parameters. INDEXED BY: without it SQLite goes through all rows of a system, as it
-- takes a system for a handful of rows.

-- observe_raw_file --
-- Take note of a raw file as the store now shows it.
INSERT INTO raw_files (
    system_id, key, day, segment_start, segment_end, time, size, etag, last_modified, trace_id, seen_at
)
VALUES (
    :system_id, :key, :day, :segment_start, :segment_end, :time, :size, :etag, :last_modified, :trace_id, :seen_at
)
ON CONFLICT (system_id, key) DO UPDATE
SET segment_start = excluded.segment_start,
    segment_end = excluded.segment_end,
    time = excluded.time,
    size = excluded.size,
    etag = excluded.etag,
    last_modified = excluded.last_modified,
    trace_id = excluded.trace_id;

-- raw_files --
-- Those of the raw files :keys (a JSON list) that are known, with everything.
SELECT *
FROM raw_files
WHERE system_id = :system_id
    AND key IN (SELECT value FROM json_each(:keys));

-- raw_files_of_segment --
-- The raw files that belong to a segment, and whether they are missing and held.
SELECT
    *,
    EXISTS (
        SELECT 1
        FROM missing_raw_files AS missing
        WHERE (missing.system_id, missing.key, missing.state) = (raw.system_id, raw.key, 'held')
    ) AS is_held
FROM raw_files AS raw INDEXED BY raw_files_by_segment
WHERE (system_id, day, segment_end) = (:system_id, :day, :end)
ORDER BY key;

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

-- processed_files --
-- Whether they gave dead letters, by the keys of the raw files whose rows lie in their segment.
SELECT key, letters
FROM raw_files
WHERE system_id = :system_id
    AND done_etag = etag;

-- letters_found --
-- Dead letters of those of the raw files :keys (a JSON list) that are still to be processed lie in the store.
UPDATE raw_files
SET letters = 1
WHERE system_id = :system_id
    AND NOT letters
    AND done_etag IS NOT etag
    AND key IN (SELECT value FROM json_each(:keys));

-- forget_raw_file --
-- A raw file is gone from the store; gives the segment that it belonged to.
DELETE FROM raw_files
WHERE system_id = :system_id
    AND key = :key
RETURNING day, segment_end;

-- raw_file_without_rows --
-- A segment was written without a raw file that belongs to it: nothing of it is left in Parquet.
UPDATE raw_files
SET done_etag = NULL,
    done_end = NULL
WHERE system_id = :system_id
    AND key = :key;

-- missing_among --
-- Those of the raw files :keys (a JSON list) that are known as missing, and what becomes of what was made of them.
SELECT key, state
FROM missing_raw_files
WHERE system_id = :system_id
    AND key IN (SELECT value FROM json_each(:keys));

-- add_missing --
-- A raw file is not in the store any more, and goes.
INSERT OR IGNORE INTO missing_raw_files
VALUES (:system_id, :key, :day, :now, 'gone');

-- missing_totals --
-- How many raw files are held or went, how many of them are held, and how many files the fullest of their days had.
SELECT
    coalesce(sum(files), 0) AS files,
    coalesce(sum(held), 0) AS held,
    coalesce(max(had), 0) AS had
FROM (
    SELECT
        count(*) AS files,
        sum(state = 'held') AS held,
        sum(NOT EXISTS (
            SELECT 1
            FROM raw_files AS raw
            WHERE (raw.system_id, raw.key) = (missing.system_id, missing.key)
        ))
        + (
            SELECT count(*)
            FROM raw_files AS raw INDEXED BY raw_files_by_segment
            WHERE (raw.system_id, raw.day) = (missing.system_id, missing.day)
        ) AS had
    FROM missing_raw_files AS missing
    WHERE system_id = :system_id
        AND state <> 'forgotten'
    GROUP BY day
);

-- hold_missing --
-- What was made of the raw files :keys (a JSON list) is kept.
UPDATE missing_raw_files
SET state = 'held'
WHERE system_id = :system_id
    AND key IN (SELECT value FROM json_each(:keys));

-- hold_raw_file --
-- A raw file that a lost ledger knows no more, as a footer tells of it: it is not in the store, its rows are.
INSERT OR IGNORE INTO raw_files (
    system_id, key, day, segment_start, segment_end, time, size, etag, last_modified, trace_id, seen_at,
    done_etag, done_end, done_at, md5, lines, rows, rejected, letters
)
VALUES (
    :system_id, :key, :day, :start, :end, :time, :size, :md5, :time, '', :now,
    '', :end, :now, :md5, :lines, :rows, :rejected, :rejected > 0
);

-- held --
-- The raw files that are held, of a range of days.
SELECT key
FROM missing_raw_files
WHERE system_id = :system_id
    AND state = 'held'
    AND day BETWEEN :first AND :last;

-- held_segments --
-- The segments in which rows of those that are held lie.
SELECT DISTINCT segments.day, segments.segment_start, segments.segment_end
FROM missing_raw_files AS missing
CROSS JOIN raw_files AS raw USING (system_id, key)
CROSS JOIN segments ON
    (segments.system_id, segments.day, segments.segment_end) = (raw.system_id, raw.day, raw.done_end)
WHERE missing.system_id = :system_id
    AND missing.state = 'held';

-- held_summary --
-- How many they are, of how many days, their first and last key, and since when.
SELECT
    count(*) AS files,
    count(DISTINCT day) AS days,
    min(key) AS first_key,
    max(key) AS last_key,
    min(since) AS since
FROM missing_raw_files
WHERE system_id = :system_id
    AND state = 'held'
    AND day BETWEEN :first AND :last;

-- raw_files_returned --
-- Those of the raw files :keys (a JSON list) that are missing no more.
DELETE FROM missing_raw_files
WHERE system_id = :system_id
    AND key IN (SELECT value FROM json_each(:keys))
RETURNING key;

-- forget_missing --
-- On the operator's command, what was made of a range of days' missing raw files goes.
UPDATE missing_raw_files
SET state = 'forgotten',
    since = :now
WHERE system_id = :system_id
    AND day BETWEEN :first AND :last;

-- forget_old_missing --
-- Those that went so long ago that they do not count any more.
DELETE FROM missing_raw_files
WHERE system_id = :system_id
    AND state <> 'held'
    AND since < :before;

-- process_again --
-- A raw file counts as changed; gives the segment that it belongs to.
UPDATE raw_files
SET done_etag = NULL
WHERE system_id = :system_id
    AND key = :key
RETURNING day, segment_end;

-- process_days_again --
-- All raw files of a range of days count as changed.
UPDATE raw_files
SET done_etag = NULL
WHERE system_id = :system_id
    AND day BETWEEN :first AND :last;

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
WHERE (system_id, day, segment_end) = (:system_id, :day, :end);

-- want_segments_of_days --
-- All known segments of a range of days are to be written.
UPDATE segments
SET wanted = wanted + 1
WHERE system_id = :system_id
    AND day BETWEEN :first AND :last;

-- days_to_seal --
-- Days before :before that can be sealed now: all of their segments are written, or none is begun. A sealed day that late
-- files came to is sealed again once no further one has come since :quiet_since; only the segments that hold late files
-- decide about it. (When the newest of them was seen is asked of these only: each poll would otherwise go through all
-- raw files.)
WITH candidates AS (
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
)
SELECT day
FROM candidates
WHERE NOT is_sealed OR late_file_seen_at IS NOT NULL
GROUP BY day
HAVING sum(done = wanted) IN (0, count(*))
    AND NOT max(0 < done AND done < wanted)
    AND coalesce(max(late_file_seen_at), '') <= :quiet_since
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

-- dirty_segments --
-- Dirty segments; where :now is given, but for those of days that failed lately and wait for their next try.
SELECT segments.*
FROM segments INDEXED BY segments_dirty
LEFT JOIN backoff USING (system_id, day)
WHERE system_id = :system_id
    AND wanted > done
    AND (:now IS NULL OR coalesce(retry_at, '') <= :now);

-- segments_of_day --
-- The segments of a day.
SELECT *
FROM segments
WHERE system_id = :system_id
    AND day = :day
ORDER BY segment_end;

-- segments_of_system --
-- All segments.
SELECT *
FROM segments
WHERE system_id = :system_id;

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
WHERE (system_id, day, segment_end) = (:system_id, :day, :end);

-- segment_done --
-- A run has fulfilled what was wanted of a segment when it began.
UPDATE segments
SET done = max(done, :wanted)
WHERE (system_id, day, segment_end) = (:system_id, :day, :end);

-- forget_empty_segment --
-- A segment that is written, has no file, and that no raw file belongs to.
DELETE FROM segments
WHERE (system_id, day, segment_end) = (:system_id, :day, :end)
    AND wanted = done
    AND enhanced_etag IS NULL
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
-- Where a segment starts, what is wanted of it, and how many raw files belong to it.
SELECT
    segment_start,
    wanted,
    (
        SELECT count(*)
        FROM raw_files AS raw
        WHERE (raw.system_id, raw.day, raw.segment_end) = (segments.system_id, segments.day, segments.segment_end)
    ) AS files
FROM segments
WHERE (system_id, day, segment_end) = (:system_id, :day, :end);

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
-- Counts of a system in a range of days: raw files, those processed, lines, rows, rejected lines; and all of its dirty
-- segments.
SELECT
    count(*) AS raw_files,
    count(*) FILTER (WHERE done_etag = etag) AS processed_files,
    coalesce(sum(lines), 0) AS lines,
    coalesce(sum(rows), 0) AS rows,
    coalesce(sum(rejected), 0) AS rejected,
    (SELECT count(*) FROM segments INDEXED BY segments_dirty WHERE system_id = :system_id AND wanted > done) AS dirty_segments
FROM raw_files
WHERE system_id = :system_id
    AND day BETWEEN :first AND :last;

-- lake --
-- Where the lake lies that the ledger knows of a system.
SELECT place
FROM lakes
WHERE system_id = :system_id;

-- set_lake --
-- The same, replaced.
INSERT OR REPLACE INTO lakes
VALUES (:system_id, :place);

-- leave_raw_files --
-- What is known of a lake that is the system's no more.
DELETE FROM raw_files
WHERE system_id = :system_id;

-- leave_missing_raw_files --
-- What is known of a lake that is the system's no more.
DELETE FROM missing_raw_files
WHERE system_id = :system_id;

-- leave_segments --
-- What is known of a lake that is the system's no more.
DELETE FROM segments
WHERE system_id = :system_id;

-- leave_sealed --
-- What is known of a lake that is the system's no more.
DELETE FROM sealed
WHERE system_id = :system_id;

-- leave_foreign_objects --
-- What is known of a lake that is the system's no more.
DELETE FROM foreign_objects
WHERE system_id = :system_id;

-- leave_reconciliations --
-- What is known of a lake that is the system's no more.
DELETE FROM reconciliations
WHERE system_id = :system_id;

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

-- retry --
-- A partition, or (null: any) each day, or each system, waits no more.
DELETE FROM backoff
WHERE system_id = coalesce(:system_id, system_id)
    AND day = coalesce(:day, day);

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
