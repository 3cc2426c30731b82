-- One row a partition, also for days without any snapshot between the first and the last one: its raw files and
-- lines, how many were rejected, how many rows have which flag (one row may have several), and how complete the day is.
-- longest_gap_seconds is the longest time between two snapshots that follow each other, whole, in the row of each day
-- (UTC) that it touches: one over midnight is in both, one of days in all of them. What was before the first snapshot of
-- all, and what comes after the newest, is no gap.
CREATE OR REPLACE VIEW main.data_quality AS
WITH counts AS (
    SELECT
        system_id,
        date,
        CAST(sum(files) AS BIGINT) AS files,
        CAST(sum("lines") AS BIGINT) AS "lines",
        CAST(sum("rows") AS BIGINT) AS "rows",
        CAST(sum(rejected) AS BIGINT) AS rejected,
        sum(rejected) / nullif(sum("lines"), 0) AS share_rejected,
        CAST(sum(station_rows) AS BIGINT) AS station_rows,
        CAST(sum(bike_rows) AS BIGINT) AS bike_rows,
        CAST(sum({flag}) AS BIGINT) AS {flag},
        CAST(sum(snapshots) AS BIGINT) AS snapshots,
        CAST(sum(future_snapshots) AS BIGINT) AS future_snapshots,
        min(oldest_snapshot) AS first_snapshot,
        max(newest_snapshot) AS last_snapshot
    FROM (
        FROM main.pipeline_partitions
        UNION ALL BY NAME
        SELECT
            system_id,
            date,
            count(*) AS files,
            sum("lines") AS "lines",
            sum("rows") AS "rows",
            sum(rejected) AS rejected
        FROM main.pipeline_files_without_rows
        WHERE "lines" IS NOT NULL
        GROUP BY system_id, date
    )
    GROUP BY system_id, date
),
calendar AS (
    SELECT system_id, CAST(unnest(generate_series(min(date), max(date), INTERVAL 1 DAY)) AS DATE) AS date
    FROM main.snapshot_days
    GROUP BY system_id
),
gaps AS (
    SELECT
        system_id,
        date,
        greatest(
            longest_gap_seconds,
            (epoch_us(coalesce(first_snapshot, next_snapshot)) - epoch_us(previous_snapshot)) / 1e6,
            (epoch_us(next_snapshot) - epoch_us(coalesce(last_snapshot, previous_snapshot))) / 1e6
        ) AS longest_gap_seconds
    FROM (
        SELECT
            *,
            last_value(last_snapshot IGNORE NULLS) OVER (
                PARTITION BY system_id
                ORDER BY date
                ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
            ) AS previous_snapshot,
            first_value(first_snapshot IGNORE NULLS) OVER (
                PARTITION BY system_id
                ORDER BY date
                ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING
            ) AS next_snapshot
        FROM calendar
        LEFT JOIN main.snapshot_days USING (system_id, date)
    )
)
SELECT
    system_id,
    date,
    coalesce(files, 0) AS files,
    coalesce("lines", 0) AS "lines",
    coalesce("rows", 0) AS "rows",
    coalesce(rejected, 0) AS rejected,
    share_rejected,
    coalesce(station_rows, 0) AS station_rows,
    coalesce(bike_rows, 0) AS bike_rows,
    coalesce({flag}, 0) AS {flag},
    coalesce(snapshots, 0) AS snapshots,
    coalesce(future_snapshots, 0) AS future_snapshots,
    first_snapshot,
    last_snapshot,
    longest_gap_seconds
FROM counts
FULL JOIN gaps USING (system_id, date)
ORDER BY system_id, date;
