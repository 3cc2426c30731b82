-- The last states of stations on days that are not sealed yet, and on those before. Part of open_station_changes.
CREATE OR REPLACE TABLE main.day_ends AS
FROM working.state.day_ends;
