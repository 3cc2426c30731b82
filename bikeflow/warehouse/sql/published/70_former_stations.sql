-- Stations that were seen before, and are not in the newest snapshot of their system: not part of the city now. last_seen
-- is the last snapshot that they were in; name, place and docks are those of it.
CREATE OR REPLACE VIEW main.former_stations AS
SELECT system_id, station_id, name, lat, lon, total_docks, observations, first_seen, last_seen
FROM main.station_summary AS known
WHERE NOT EXISTS (
    FROM main.stations_latest AS now
    WHERE now.system_id = known.system_id AND now.station_id = known.station_id
)
ORDER BY system_id, last_seen DESC, station_id;
