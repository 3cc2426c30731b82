-- The newest changes of stations' states on days that are not sealed yet. Part of open_station_changes.
CREATE OR REPLACE TABLE main.recent_station_changes AS
FROM working.state.station_changes;
