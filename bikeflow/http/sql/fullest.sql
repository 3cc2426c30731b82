-- The stations of the newest snapshot with the most bikes.
SELECT name, bikes, spaces, total_docks
FROM wrm_stations_latest
WHERE file_timestamp = getvariable('newest_snapshot')
ORDER BY bikes DESC, total_docks, name
LIMIT 6
