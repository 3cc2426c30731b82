-- The stations of the newest snapshot with the fewest bikes, the larger ones first.
SELECT name, bikes, spaces, total_docks
FROM wrm_stations_latest
WHERE file_timestamp = getvariable('newest_snapshot')
ORDER BY bikes, total_docks DESC, name
LIMIT 6
