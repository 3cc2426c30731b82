-- Changes of stations' states on days that are not sealed yet, and the last states of these days and of those before.
-- Part of station_changes.
CREATE OR REPLACE TABLE main.open_station_changes AS
SELECT *, dt + 1 AS next_dt, false AS is_copy
FROM working.state.station_changes
UNION ALL BY NAME
SELECT *, dt + 1 AS next_dt
FROM working.state.day_ends;
