-- One row a day (UTC) with a snapshot, whichever day's folder it lies in: the first, the last, and the longest time between
-- two that follow each other. Where segments overlap, as with a late file of a day that is sealed, the times themselves
-- tell. data_quality is made of it.
CREATE OR REPLACE TABLE wrm_analytics.snapshot_days AS
WITH days AS (
    SELECT
        day,
        min(first_snapshot) AS first_snapshot,
        max(last_snapshot) AS last_snapshot,
        max(greatest(longest_gap_us, border_us)) AS longest_gap_us,
        coalesce(min(border_us) < 0, false) AS is_overlapping
    FROM (
        SELECT
            *,
            epoch_us(first_snapshot)
                - epoch_us(max(last_snapshot) OVER (
                    PARTITION BY day
                    ORDER BY first_snapshot, last_snapshot
                    ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
                )) AS border_us
        FROM working.partials.snapshot_times
    )
    GROUP BY day
),
exact AS (
    SELECT day, max(gap_us) AS longest_gap_us
    FROM (
        SELECT day, epoch_us("at") - lag(epoch_us("at")) OVER (PARTITION BY day ORDER BY "at") AS gap_us
        FROM (
            SELECT day, unnest(times) AS "at"
            FROM working.partials.snapshot_times
            WHERE day IN (SELECT day FROM days WHERE is_overlapping)
        )
    )
    GROUP BY day
)
SELECT
    day AS date,
    first_snapshot,
    last_snapshot,
    if(is_overlapping, exact.longest_gap_us, days.longest_gap_us) / 1e6 AS longest_gap_seconds
FROM days
LEFT JOIN exact USING (day)
ORDER BY day;
