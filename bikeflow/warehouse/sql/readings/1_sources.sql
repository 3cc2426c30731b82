-- Each raw file that is being read: what its record tells ($records), how many rows of each kind it has, and its number:
-- partition by partition, in the order of time (of two at the same second, by their keys). One without rows has no time,
-- and comes last. One that is later than `latest_time` is dated in the future. A vehicle that stands at a station (it can't
-- be taken, though it is neither reserved nor broken) is counted there, and is no free bike.
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
        count(*) FILTER (WHERE len(quality_flags) > 0) AS flagged,
        coalesce(sum(CAST(bikes AS DOUBLE)) FILTER (WHERE record_type = 'station' AND NOT is_outside), 0) AS station_bikes,
        coalesce(sum(CAST(bikes AS DOUBLE)) FILTER (WHERE record_type = 'station' AND is_outside), 0)
            AS station_bikes_outside,
        count(*) FILTER (WHERE is_free AND NOT is_outside) AS free_bikes,
        count(*) FILTER (WHERE is_free AND is_outside) AS free_bikes_outside
    FROM (
        SELECT
            *,
            list_contains(quality_flags, 'outside_service_area') AS is_outside,
            record_type = 'bike' AND (coalesce(bikes, 1) > 0 OR coalesce(locked, false) OR coalesce(bikes_disabled, 0) > 0)
                AS is_free
        FROM temp.read_rows
    )
    GROUP BY system_id, dt, s3_source_key
) USING (system_id, dt, s3_source_key)
