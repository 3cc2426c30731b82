-- Each raw file of the segment: what the footer tells of it ($records), how many rows of each kind it has, and its number
-- in the order of time (of two at the same second, by their keys). One without rows has no time, and comes last. One whose
-- time is later than `latest_time` is dated in the future.
SELECT
    CAST(row_number() OVER (ORDER BY file_timestamp, s3_source_key) AS INTEGER) AS number,
    coalesce(file_timestamp > CAST(getvariable('latest_time') AS TIMESTAMP), false) AS is_future,
    *
FROM (
    SELECT record."key" AS s3_source_key, record.* EXCLUDE ("key")
    FROM (
        SELECT
            unnest(
                from_json(
                    $records,
                    '[{"key": "VARCHAR", "size": "BIGINT", "md5": "VARCHAR", "lines": "BIGINT", "rows": "BIGINT",
                       "rejected": "BIGINT"}]'
                )
            ) AS record
    )
)
FULL JOIN (
    SELECT
        s3_source_key,
        any_value(file_timestamp) AS file_timestamp,
        any_value("date") AS "date",
        count(*) AS counted_rows,
        count(*) FILTER (WHERE record_type = 'station') AS station_rows,
        count(*) FILTER (WHERE record_type = 'bike') AS bike_rows,
        count(*) FILTER (WHERE len(quality_flags) > 0) AS flagged,
        count(*) FILTER (WHERE list_contains(quality_flags, 'outside_service_area')) AS outside_service_area,
        count(*) FILTER (WHERE list_contains(quality_flags, 'over_capacity')) AS over_capacity,
        count(*) FILTER (WHERE list_contains(quality_flags, 'future_timestamp')) AS future_timestamp,
        count(*) FILTER (WHERE list_contains(quality_flags, 'stale_timestamp')) AS stale_timestamp
    FROM temp.segment_rows
    GROUP BY s3_source_key
) USING (s3_source_key)
