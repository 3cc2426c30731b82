-- The newest snapshot at a glance: stations, how many of them are empty or full, the bikes that stand there, and free
-- bikes; all of it inside the service area, and how many stations and free bikes are outside.
SELECT
    count(*) FILTER (is_station AND inside) AS stations,
    count(*) FILTER (is_station AND inside AND bikes = 0 AND spaces > 0) AS empty_stations,
    count(*) FILTER (
        is_station AND inside AND bikes > 0 AND (spaces = 0 OR (total_docks > 0 AND bikes >= total_docks))
    ) AS full_stations,
    CAST(least(coalesce(sum(bikes) FILTER (is_station AND inside), 0), 9223372036854775807) AS BIGINT) AS bikes_at_stations,
    count(*) FILTER (NOT is_station AND inside) AS free_bikes,
    count(*) FILTER (is_station AND NOT inside) AS stations_outside,
    count(*) FILTER (NOT is_station AND NOT inside) AS free_bikes_outside,
    getvariable('newest_snapshot') AS snapshot_at
FROM (
    SELECT
        *,
        record_type = 'station' AS is_station,
        NOT list_contains(quality_flags, 'outside_service_area') AS inside
    FROM wrm_current_rows
    WHERE file_timestamp = getvariable('newest_snapshot')
        AND record_type IN ('station', 'bike')
)
