-- Service levels of stations ({levels}) summed up by district: $stations and $districts tell which station lies in which.
SELECT
    coalesce(district, 'outside all districts') AS district,
    local_date,
    local_hour,
    hour_at,
    count(DISTINCT station_id) AS stations,
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
FROM ({levels})
LEFT JOIN (SELECT unnest($stations) AS station_id, unnest($districts) AS district) USING (station_id)
GROUP BY ALL
