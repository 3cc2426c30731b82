-- The first stations of the newest snapshot inside the service area, in an order by the share of bikes to docks.
SELECT
    name,
    bikes,
    spaces,
    total_docks,
    parts.is_empty(bikes, spaces) AS is_empty,
    parts.is_full(bikes, spaces, total_docks) AS is_full,
    bikes / greatest(total_docks, 1) AS share
FROM wrm_stations_latest
WHERE NOT list_contains(quality_flags, 'outside_service_area')
ORDER BY {order}
LIMIT 6
