-- One row a partition, also for days without any snapshot between the first and the last one: its raw files and lines,
-- how many were rejected, how many files have no station at all (a feed that has stations serves an empty list now and
-- then), how many rows have which flag (one row may have several), and how complete the day is: for how long the state
-- was known, and the longest gap that touches the day (see coverage_days).
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
        CAST(sum(files_without_stations) AS BIGINT) AS files_without_stations,
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
            count(*) AS files_without_stations,
            sum("lines") AS "lines",
            sum("rows") AS "rows",
            sum(rejected) AS rejected
        FROM main.pipeline_files_without_rows
        WHERE "lines" IS NOT NULL
        GROUP BY system_id, date
    )
    GROUP BY system_id, date
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
    coalesce(files_without_stations, 0) AS files_without_stations,
    coalesce({flag}, 0) AS {flag},
    coalesce(snapshots, 0) AS snapshots,
    coalesce(future_snapshots, 0) AS future_snapshots,
    first_snapshot,
    last_snapshot,
    known_seconds,
    unknown_seconds,
    longest_gap_seconds
FROM counts
FULL JOIN main.coverage_days USING (system_id, date)
ORDER BY system_id, date;
