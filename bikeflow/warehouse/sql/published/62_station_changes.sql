-- The log that station_states is made of: a row when a station is first seen on a day (UTC), or has other bikes, spaces
-- or docks than before, one (is_there is false) at the first snapshot that no longer has it, and one (is_last) with its
-- state at the end of the day. Only snapshots tell of stations that have any (an empty document does not), that lie in
-- the folder of their own day, and that are not dated in the future. A row without a station is a snapshot. A filter on dt, station_id or system_id reads little.
CREATE OR REPLACE VIEW main.station_changes AS
SELECT system_id, * EXCLUDE (system_id)
FROM {station_changes}
UNION ALL BY NAME
SELECT * EXCLUDE (is_copy)
FROM main.open_station_changes
WHERE NOT is_copy;
