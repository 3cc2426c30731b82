-- The service levels of stations over a range of local days: a row for each station and period ($period: hour, day or
-- week), or for each station ($period is null); of one station only, where $station names it.
WITH levels AS (
    SELECT
        station_id,
        if($period IS NULL, NULL, local_date) AS local_date,
        if($period = 'hour', local_hour, NULL) AS local_hour,
        if($period = 'hour', hour_at, NULL) AS hour_at,
        sum(known_seconds) AS known_seconds,
        sum(unknown_seconds) AS unknown_seconds,
        sum(empty_seconds) AS empty_seconds,
        sum(empty_seconds_at_most) AS empty_seconds_at_most,
        CAST(sum(empty_episodes) AS BIGINT) AS empty_episodes,
        max(longest_empty_seconds) AS longest_empty_seconds,
        max(longest_empty_seconds_at_most) AS longest_empty_seconds_at_most,
        sum(full_seconds) AS full_seconds,
        sum(full_seconds_at_most) AS full_seconds_at_most,
        CAST(sum(full_episodes) AS BIGINT) AS full_episodes,
        max(longest_full_seconds) AS longest_full_seconds,
        max(longest_full_seconds_at_most) AS longest_full_seconds_at_most
    FROM station_service_levels
    WHERE period = coalesce($period, 'day')
        AND local_date BETWEEN $first AND $last
        AND station_id = coalesce($station, station_id)
    GROUP BY ALL
),
-- over several days, an episode that goes over midnight is one
touched AS (
    SELECT
        station_id,
        count(*) FILTER (WHERE state = 'empty') AS empty_episodes,
        count(*) FILTER (WHERE state = 'full') AS full_episodes
    FROM station_episodes
    WHERE began_at < (SELECT max(hour_at) + INTERVAL 1 HOUR FROM coverage_hours WHERE local_date <= $last)
        AND ended_at > (SELECT min(hour_at) FROM coverage_hours WHERE local_date >= $first)
    GROUP BY station_id
)
SELECT
    station_id,
    name,
    lat,
    lon,
    levels.* EXCLUDE (station_id) REPLACE (
        if($period IS NULL, coalesce(touched.empty_episodes, 0), levels.empty_episodes) AS empty_episodes,
        if($period IS NULL, coalesce(touched.full_episodes, 0), levels.full_episodes) AS full_episodes
    )
FROM levels
LEFT JOIN touched USING (station_id)
LEFT JOIN (SELECT station_id, name, lat, lon FROM station_summary) USING (station_id)
