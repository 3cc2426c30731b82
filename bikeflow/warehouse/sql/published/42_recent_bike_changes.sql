-- The newest changes of bikes on days that are not sealed yet. Part of open_bike_changes.
CREATE OR REPLACE TABLE main.recent_bike_changes AS
FROM working.state.bike_changes;
