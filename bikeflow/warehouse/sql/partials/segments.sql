-- One row a segment: what its footer and its rows tell of it, and its newest snapshot (of two at the same second, the one
-- whose key sorts last). A gap is the time between two snapshots that follow each other.
WITH snapshots AS (
    SELECT *, epoch_us(file_timestamp) - lag(epoch_us(file_timestamp)) OVER (ORDER BY file_timestamp) AS gap_us
    FROM (
        SELECT
            file_timestamp,
            s3_source_key,
            any_value("date") AS "date",
            count(*) AS "rows",
            count(*) FILTER (WHERE record_type = 'station') AS station_rows,
            count(*) FILTER (WHERE record_type = 'bike') AS bike_rows,
            count(*) FILTER (WHERE list_contains(quality_flags, 'outside_service_area')) AS outside_service_area,
            count(*) FILTER (WHERE list_contains(quality_flags, 'over_capacity')) AS over_capacity,
            count(*) FILTER (WHERE list_contains(quality_flags, 'future_timestamp')) AS future_timestamp,
            count(*) FILTER (WHERE list_contains(quality_flags, 'stale_timestamp')) AS stale_timestamp
        FROM read_parquet($file, hive_partitioning = false)
        GROUP BY file_timestamp, s3_source_key
    )
),
footer AS (
    SELECT unnest(from_json(decode(value), '[{"lines": "BIGINT", "rejected": "BIGINT"}]')) AS file
    FROM parquet_kv_metadata($file)
    WHERE key = 'bikeflow.files'
)
SELECT
    any_value("date") AS "date",
    (SELECT count(*) FROM footer) AS files,
    (SELECT coalesce(sum(file.lines), 0) FROM footer) AS "lines",
    (SELECT coalesce(sum(file.rejected), 0) FROM footer) AS rejected,
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
    max_by(s3_source_key, (file_timestamp, s3_source_key)) AS newest_source_key,
    max(gap_us) AS longest_gap_us
FROM snapshots
