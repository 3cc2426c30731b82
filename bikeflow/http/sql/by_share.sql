-- The first stations of the newest snapshot inside the service area, in an order by the share of bikes to docks.
SELECT
    name,
    bikes,
    spaces,
    total_docks,
    parts.is_empty(bikes, spaces) AS is_empty,
    parts.is_full(bikes, spaces, total_docks) AS is_full,
    bikes / total_docks AS share
FROM wrm_stations_latest
WHERE NOT list_contains(quality_flags, 'outside_service_area')
    AND bikes IS NOT NULL
    AND total_docks > 0
ORDER BY {order}
LIMIT 6
