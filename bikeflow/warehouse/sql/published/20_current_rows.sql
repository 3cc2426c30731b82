-- All rows of each system's newest snapshot: the one that was taken last by its file's time, whatever times are inside it.
-- Where it has no station at all, it tells nothing of stations: they are those of the newest snapshot that has any. One
-- that is dated in the future is not the newest before its time comes. stations_latest, bikes_latest and bike_density are
-- made of it.
CREATE OR REPLACE TABLE main.current_rows AS
FROM working.state.current_rows
ORDER BY system_id, station_id;
