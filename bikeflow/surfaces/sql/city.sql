-- The newest snapshot at a glance, inside the service area: its stations, how many of them are empty or full, the bikes that
-- stand there, and the free ones; then how many stations and free bikes are outside.
SELECT
    stations,
    stations_empty AS empty_stations,
    stations_full AS full_stations,
    (
        SELECT CAST(least(coalesce(sum(bikes), 0), 9223372036854775807) AS BIGINT)
        FROM wrm_stations_latest
        WHERE NOT list_contains(quality_flags, 'outside_service_area')
    ) AS bikes_at_stations,
    bikes AS free_bikes,
    stations_outside,
    bikes_outside AS free_bikes_outside,
    newest_snapshot AS snapshot_at
FROM publication
