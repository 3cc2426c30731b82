-- The segment's snapshots, numbered in the order of time (of two at the same second, by their keys), and how many rows
-- of each kind they have.
SELECT
    CAST(row_number() OVER (ORDER BY file_timestamp, s3_source_key) AS INTEGER) AS number,
    *
FROM (
    SELECT
        s3_source_key,
        any_value(file_timestamp) AS file_timestamp,
        any_value("date") AS "date",
        count(*) AS "rows",
        count(*) FILTER (WHERE record_type = 'station') AS station_rows,
        count(*) FILTER (WHERE record_type = 'bike') AS bike_rows,
        count(*) FILTER (WHERE len(quality_flags) > 0) AS flagged,
        count(*) FILTER (WHERE list_contains(quality_flags, 'outside_service_area')) AS outside_service_area,
        count(*) FILTER (WHERE list_contains(quality_flags, 'over_capacity')) AS over_capacity,
        count(*) FILTER (WHERE list_contains(quality_flags, 'future_timestamp')) AS future_timestamp,
        count(*) FILTER (WHERE list_contains(quality_flags, 'stale_timestamp')) AS stale_timestamp
    FROM temp.segment_rows
    GROUP BY s3_source_key
)
