-- One row a day (UTC) with a snapshot, whichever day's folder it lies in: the first, the last, and the longest time between
-- two that follow each other. data_quality is made of it.
CREATE OR REPLACE TABLE main.snapshot_days AS
SELECT
    system_id,
    day AS date,
    first_snapshot,
    last_snapshot,
    if(exact.day IS NULL, joined.longest_gap_us, exact.longest_gap_us) / 1e6 AS longest_gap_seconds
FROM (
    SELECT
        system_id,
        day,
        min(first_snapshot) AS first_snapshot,
        max(last_snapshot) AS last_snapshot,
        max(greatest(longest_gap_us, border_us)) AS longest_gap_us
    FROM (
        SELECT
            *,
            epoch_us(first_snapshot)
                - lag(epoch_us(last_snapshot)) OVER (PARTITION BY system_id, day ORDER BY first_snapshot) AS border_us
        FROM working.state.coverage
    )
    GROUP BY system_id, day
) AS joined
LEFT JOIN working.state.interleaved_days AS exact USING (system_id, day)
ORDER BY system_id, day;
