-- When snapshots of the segment were taken, by their own day (UTC), which mostly is the segment's. Those dated in the
-- future do not count yet. The times themselves are needed only where segments overlap.
SELECT
    CAST(file_timestamp AS DATE) AS day,
    min(file_timestamp) AS first_snapshot,
    max(file_timestamp) AS last_snapshot,
    max(gap_us) AS longest_gap_us,
    list(file_timestamp ORDER BY number) AS times
FROM (
    SELECT
        number,
        file_timestamp,
        epoch_us(file_timestamp)
            - lag(epoch_us(file_timestamp)) OVER (PARTITION BY CAST(file_timestamp AS DATE) ORDER BY number) AS gap_us
    FROM temp.sources
    WHERE file_timestamp IS NOT NULL
        AND NOT is_future
)
GROUP BY day
