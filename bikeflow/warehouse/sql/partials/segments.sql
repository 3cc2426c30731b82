-- One row a segment: what its raw files gave, and its newest snapshot (of two at the same second, the one whose key sorts
-- last). A gap is the time between two snapshots that follow each other.
SELECT
    any_value("date") AS "date",
    count(*) AS files,
    CAST(coalesce(sum("lines"), 0) AS BIGINT) AS "lines",
    CAST(coalesce(sum(rejected), 0) AS BIGINT) AS rejected,
    CAST(sum(counted_rows) AS BIGINT) AS "rows",
    CAST(sum(station_rows) AS BIGINT) AS station_rows,
    CAST(sum(bike_rows) AS BIGINT) AS bike_rows,
    CAST(sum(outside_service_area) AS BIGINT) AS outside_service_area,
    CAST(sum(over_capacity) AS BIGINT) AS over_capacity,
    CAST(sum(future_timestamp) AS BIGINT) AS future_timestamp,
    CAST(sum(stale_timestamp) AS BIGINT) AS stale_timestamp,
    count(file_timestamp) AS snapshots,
    min(file_timestamp) AS oldest_snapshot,
    max(file_timestamp) AS newest_snapshot,
    arg_max(s3_source_key, number) FILTER (WHERE file_timestamp IS NOT NULL) AS newest_source_key,
    max(gap_us) AS longest_gap_us
FROM (
    SELECT *, epoch_us(file_timestamp) - lag(epoch_us(file_timestamp)) OVER (ORDER BY number) AS gap_us
    FROM temp.sources
)
