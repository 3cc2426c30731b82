-- One row a segment: what its raw files gave, and its newest snapshot (of two at the same second, the one whose key sorts
-- last). A gap is the time between two snapshots that follow each other. Snapshots that were dated in the future when the
-- segment was read are counted apart: when the time of the first of them comes, the segment is read again.
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
    count(snapshot_at) AS snapshots,
    count(*) FILTER (WHERE is_future) AS future_snapshots,
    min(snapshot_at) AS oldest_snapshot,
    max(snapshot_at) AS newest_snapshot,
    arg_max(s3_source_key, number) FILTER (WHERE snapshot_at IS NOT NULL) AS newest_source_key,
    max(gap_us) AS longest_gap_us,
    min(file_timestamp) FILTER (WHERE is_future) AS future_at
FROM (
    SELECT *, epoch_us(snapshot_at) - lag(epoch_us(snapshot_at)) OVER (ORDER BY number) AS gap_us
    FROM (SELECT *, if(is_future, NULL, file_timestamp) AS snapshot_at FROM temp.sources)
)
