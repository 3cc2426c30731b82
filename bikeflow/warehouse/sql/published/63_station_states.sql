-- The states of each station, one after the other: a state begins at the first snapshot that shows it, and lasts until
-- the next snapshot that shows another one, or no longer has the station. A day (UTC) that has snapshots begins with the
-- states at the end of the day before; a state without an end lasts to the end of its day, or until now. Whether it was
-- known all the time, coverage tells. A filter on date, station_id or system_id reads little.
CREATE OR REPLACE VIEW main.station_states AS
FROM parts.station_states('main.station_changes');
