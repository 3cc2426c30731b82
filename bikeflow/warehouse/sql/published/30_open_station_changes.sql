-- Changes of stations' states on days that are not sealed yet, and the last states of these days and of those before.
-- Part of station_changes.
CREATE OR REPLACE TABLE main.open_station_changes AS
SELECT *, dt + 1 AS next_dt, false AS is_copy
FROM working.state.station_changes
UNION ALL BY NAME
SELECT *, dt + 1 AS next_dt, (system_id, dt) NOT IN (SELECT (system_id, dt) FROM working.state.station_changes) AS is_copy
FROM working.state.last_states('working.state.open_ends');
