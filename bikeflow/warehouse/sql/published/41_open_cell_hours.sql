-- Hours of station_density_hourly that do not lie in a file of their own: those of days that are not sealed yet, and of
-- snapshots that lie in the folder of another day than their own. Part of station_density_hourly.
CREATE OR REPLACE TABLE main.open_cell_hours AS
SELECT * EXCLUDE (dt)
FROM working.state.cell_hours;
