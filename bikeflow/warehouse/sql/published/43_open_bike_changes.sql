-- Changes of bikes of days that are not sealed yet. Part of bike_changes.
CREATE OR REPLACE TABLE main.open_bike_changes AS
SELECT * RENAME (dt AS date)
FROM working.state.bike_changes;
