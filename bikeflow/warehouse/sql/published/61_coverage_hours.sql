-- How long coverage reaches into each hour (UTC), known and unknown, with the hour's local date and hour in the system's
-- time zone.
CREATE OR REPLACE VIEW main.coverage_hours AS
SELECT
    system_id,
    hour_at,
    CAST(hour_at AS DATE) AS date,
    CAST(hour(hour_at) AS INTEGER) AS hour,
    CAST(parts.local_time(hour_at, timezone) AS DATE) AS local_date,
    CAST(hour(parts.local_time(hour_at, timezone)) AS INTEGER) AS local_hour,
    us / 1e6 AS seconds,
    known_us / 1e6 AS known_seconds,
    (us - known_us) / 1e6 AS unknown_seconds
FROM (
    SELECT system_id, hour_at, sum(us) AS us, sum(if(known, us, 0)) AS known_us
    FROM (
        SELECT
            *,
            epoch_us(least(ended_at, hour_at + INTERVAL 1 HOUR)) - epoch_us(greatest(began_at, hour_at)) AS us
        FROM (
            SELECT
                system_id,
                known,
                began_at,
                ended_at,
                unnest(generate_series(date_trunc('hour', began_at), ended_at, INTERVAL 1 HOUR)) AS hour_at
            FROM main.coverage
        )
    )
    GROUP BY system_id, hour_at
)
JOIN main.systems USING (system_id);
