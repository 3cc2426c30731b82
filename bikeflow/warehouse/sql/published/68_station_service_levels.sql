-- Service levels: for how long each station was empty or full, by hour, local day and local week (from Monday; period is
-- hour, day or week). The seconds that are known are a lower bound, those at most count unknown time as well. An episode
-- counts in each period that it touches, and with its whole length: it goes over hours, days and weeks. local_date is
-- that of the period's beginning in the system's time zone; local_hour is null for days and weeks.
CREATE OR REPLACE VIEW main.station_service_levels AS
WITH periods AS (
    SELECT unnest(['hour', 'day', 'week']) AS period
),
hours AS (
    SELECT
        system_id,
        period,
        hour_at,
        if(
            period = 'hour',
            hour_at,
            date_trunc(period, parts.local_time(hour_at, timezone))
        ) AS period_at,
        date_trunc(period, parts.local_time(hour_at, timezone)) AS local_at
    FROM main.coverage_hours
    JOIN main.systems USING (system_id)
    CROSS JOIN periods
),
covered AS (
    SELECT system_id, period, period_at, sum(seconds) AS seconds
    FROM main.coverage_hours
    JOIN hours USING (system_id, hour_at)
    GROUP BY ALL
),
levels AS (
    SELECT
        system_id,
        station_id,
        period,
        period_at,
        any_value(local_at) AS local_at,
        sum(known_seconds) AS known_seconds,
        sum(empty_seconds) AS empty_seconds,
        sum(full_seconds) AS full_seconds
    FROM (
        SELECT *, date + to_hours(hour) AS hour_at
        FROM main.station_hourly
    )
    JOIN hours USING (system_id, hour_at)
    GROUP BY ALL
),
episodes AS (
    SELECT
        system_id,
        station_id,
        period,
        period_at,
        count(DISTINCT began_at) FILTER (WHERE state = 'empty') AS empty_episodes,
        max(seconds) FILTER (WHERE state = 'empty') AS longest_empty_seconds,
        max(seconds_at_most) FILTER (WHERE state IN ('empty', 'maybe_empty')) AS longest_empty_seconds_at_most,
        count(DISTINCT began_at) FILTER (WHERE state = 'full') AS full_episodes,
        max(seconds) FILTER (WHERE state = 'full') AS longest_full_seconds,
        max(seconds_at_most) FILTER (WHERE state IN ('full', 'maybe_full')) AS longest_full_seconds_at_most
    FROM (
        SELECT
            *,
            unnest(
                generate_series(date_trunc('hour', began_at), ended_at - INTERVAL 1 MICROSECOND, INTERVAL 1 HOUR)
            ) AS hour_at
        FROM main.station_episodes
    )
    JOIN hours USING (system_id, hour_at)
    GROUP BY system_id, station_id, period, period_at
)
SELECT
    system_id,
    station_id,
    period,
    CAST(local_at AS DATE) AS local_date,
    if(period = 'hour', CAST(hour(local_at) AS INTEGER), NULL) AS local_hour,
    if(period = 'hour', period_at, NULL) AS hour_at,
    known_seconds,
    covered.seconds - known_seconds AS unknown_seconds,
    empty_seconds,
    empty_seconds + covered.seconds - known_seconds AS empty_seconds_at_most,
    full_seconds,
    full_seconds + covered.seconds - known_seconds AS full_seconds_at_most,
    coalesce(empty_episodes, 0) AS empty_episodes,
    coalesce(longest_empty_seconds, 0) AS longest_empty_seconds,
    coalesce(longest_empty_seconds_at_most, 0) AS longest_empty_seconds_at_most,
    coalesce(full_episodes, 0) AS full_episodes,
    coalesce(longest_full_seconds, 0) AS longest_full_seconds,
    coalesce(longest_full_seconds_at_most, 0) AS longest_full_seconds_at_most
FROM levels
JOIN covered USING (system_id, period, period_at)
LEFT JOIN episodes USING (system_id, station_id, period, period_at);
