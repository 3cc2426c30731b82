-- Each raw file that is being read: what its record tells ($records), how many rows of each kind it has, and its number:
-- partition by partition, in the order of time (of two at the same second, by their keys). One without rows has no time,
-- and comes last. One that is later than `latest_time` is dated in the future.
SELECT
    CAST(row_number() OVER (ORDER BY system_id, dt, file_timestamp, s3_source_key) AS INTEGER) AS number,
    CAST(dense_rank() OVER (ORDER BY system_id, dt) AS INTEGER) AS partition_number,
    coalesce(file_timestamp > CAST(getvariable('latest_time') AS TIMESTAMP), false) AS is_future,
    *
FROM (
    SELECT record."key" AS s3_source_key, record.* EXCLUDE ("key")
    FROM (
        SELECT
            unnest(
                from_json(
                    $records,
                    '[{"system_id": "VARCHAR", "dt": "DATE", "key": "VARCHAR", "size": "BIGINT", "md5": "VARCHAR",
                       "lines": "BIGINT", "rows": "BIGINT", "rejected": "BIGINT"}]'
                )
            ) AS record
    )
)
FULL JOIN (
    SELECT
        system_id,
        dt,
        s3_source_key,
        any_value(file_timestamp) AS file_timestamp,
        count(*) AS counted_rows,
        count(*) FILTER (WHERE record_type = 'station') AS station_rows,
        count(*) FILTER (WHERE record_type = 'bike') AS bike_rows,
        count(*) FILTER (WHERE list_contains(quality_flags, '{flag}')) AS {flag},
        count(*) FILTER (WHERE len(quality_flags) > 0) AS flagged
    FROM temp.read_rows
    GROUP BY system_id, dt, s3_source_key
) USING (system_id, dt, s3_source_key)
