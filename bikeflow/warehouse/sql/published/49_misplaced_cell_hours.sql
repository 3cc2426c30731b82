-- Hours of station_density_hourly whose snapshots lie in the folder of another day, such as one taken just after midnight.
-- Part of station_density_hourly.
CREATE OR REPLACE TABLE wrm_analytics.misplaced_cell_hours AS
SELECT * EXCLUDE (segment)
FROM working.partials.misplaced_cells;
