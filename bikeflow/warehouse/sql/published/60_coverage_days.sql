-- One row a day (UTC) that coverage reaches, also without any snapshot: for how long the state was known and for how
-- long not, and the longest gap that touches the day, whole: one over midnight is in both days, one of days in all of
-- them.
CREATE OR REPLACE VIEW main.coverage_days AS
SELECT
    system_id,
    CAST(midnight AS DATE) AS date,
    coalesce(sum(here_us) FILTER (WHERE known), 0) / 1e6 AS known_seconds,
    coalesce(sum(here_us) FILTER (WHERE NOT known), 0) / 1e6 AS unknown_seconds,
    coalesce(max(gap_us), 0) / 1e6 AS longest_gap_seconds
FROM (
    SELECT
        *,
        epoch_us(least(ended_at, midnight + INTERVAL 1 DAY)) - epoch_us(greatest(began_at, midnight)) AS here_us
    FROM (
        SELECT
            system_id,
            began_at,
            ended_at,
            true AS known,
            NULL AS gap_us,
            unnest(generate_series(date_trunc('day', began_at), ended_at - INTERVAL 1 MICROSECOND, INTERVAL 1 DAY))
                AS midnight
        FROM main.coverage
        WHERE known
        UNION ALL
        SELECT
            system_id,
            began_at,
            ended_at,
            false,
            epoch_us(ended_at) - epoch_us(began_at),
            unnest(generate_series(date_trunc('day', began_at), ended_at - INTERVAL 1 MICROSECOND, INTERVAL 1 DAY))
        FROM main.gaps
    )
)
GROUP BY system_id, midnight;
