-- One row a segment: what its footer and its rows tell of it, and its newest snapshot (of two at the same second, the one
-- whose key sorts last). A gap is the time between two snapshots that follow each other.
SELECT
    any_value("date") AS "date",
    (SELECT count(*) FROM temp.footer) AS files,
    (SELECT coalesce(sum("lines"), 0) FROM temp.footer) AS "lines",
    (SELECT coalesce(sum(rejected), 0) FROM temp.footer) AS rejected,
    CAST(sum("rows") AS BIGINT) AS "rows",
    sum(station_rows) AS station_rows,
    sum(bike_rows) AS bike_rows,
    sum(outside_service_area) AS outside_service_area,
    sum(over_capacity) AS over_capacity,
    sum(future_timestamp) AS future_timestamp,
    sum(stale_timestamp) AS stale_timestamp,
    count(*) AS snapshots,
    min(file_timestamp) AS oldest_snapshot,
    max(file_timestamp) AS newest_snapshot,
    arg_max(s3_source_key, number) AS newest_source_key,
    max(gap_us) AS longest_gap_us
FROM (
    SELECT *, epoch_us(file_timestamp) - lag(epoch_us(file_timestamp)) OVER (ORDER BY number) AS gap_us
    FROM temp.snapshots
)
