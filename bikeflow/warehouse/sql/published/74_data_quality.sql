-- One row a day (partition): its raw files and lines, how many were rejected, how many rows have which flag (one row may
-- have several), and how complete the day is: snapshots, the first, the last, and the longest time between two.
CREATE OR REPLACE VIEW wrm_analytics.data_quality AS
WITH segments AS (
    SELECT
        *,
        epoch_us(oldest_snapshot)
            - lag(epoch_us(newest_snapshot)) OVER (PARTITION BY "date" ORDER BY oldest_snapshot) AS border_us
    FROM wrm_analytics.pipeline_segments
    UNION ALL BY NAME
    SELECT date, count(*) AS files, sum("lines") AS "lines", sum("rows") AS "rows", sum(rejected) AS rejected
    FROM wrm_analytics.pipeline_files_without_rows
    WHERE "lines" IS NOT NULL
    GROUP BY date
)
SELECT
    date,
    CAST(sum(files) AS BIGINT) AS files,
    CAST(sum("lines") AS BIGINT) AS "lines",
    CAST(sum("rows") AS BIGINT) AS "rows",
    CAST(sum(rejected) AS BIGINT) AS rejected,
    sum(rejected) / nullif(sum("lines"), 0) AS share_rejected,
    CAST(coalesce(sum(station_rows), 0) AS BIGINT) AS station_rows,
    CAST(coalesce(sum(bike_rows), 0) AS BIGINT) AS bike_rows,
    CAST(coalesce(sum(outside_service_area), 0) AS BIGINT) AS outside_service_area,
    CAST(coalesce(sum(over_capacity), 0) AS BIGINT) AS over_capacity,
    CAST(coalesce(sum(future_timestamp), 0) AS BIGINT) AS future_timestamp,
    CAST(coalesce(sum(stale_timestamp), 0) AS BIGINT) AS stale_timestamp,
    CAST(coalesce(sum(snapshots), 0) AS BIGINT) AS snapshots,
    min(oldest_snapshot) AS first_snapshot,
    max(newest_snapshot) AS last_snapshot,
    greatest(max(longest_gap_seconds), max(border_us) / 1e6) AS longest_gap_seconds
FROM segments
GROUP BY date
ORDER BY date;
