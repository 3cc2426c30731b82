-- The stations of the newest snapshots of two systems.
SELECT system_id, station_id, name, lat, lon, bikes, epoch(file_timestamp) - epoch("timestamp") AS reported_before_seconds
FROM main.stations_latest
WHERE system_id IN ($first, $second)
ORDER BY system_id, station_id;
