-- When snapshots of a partition were taken, by their own day (UTC), which mostly is the partition's. Those dated in the
-- future do not count yet.
SELECT
    system_id,
    dt,
    CAST(file_timestamp AS DATE) AS day,
    min(file_timestamp) AS first_snapshot,
    max(file_timestamp) AS last_snapshot,
    max(gap_us) AS longest_gap_us
FROM (
    SELECT
        system_id,
        dt,
        file_timestamp,
        epoch_us(file_timestamp) - lag(epoch_us(file_timestamp)) OVER in_time AS gap_us
    FROM temp.sources
    WHERE file_timestamp IS NOT NULL
        AND NOT is_future
    WINDOW in_time AS (PARTITION BY system_id, dt, CAST(file_timestamp AS DATE) ORDER BY number)
)
GROUP BY system_id, dt, day
