-- Hours of station_density_hourly whose snapshots lie in the folder of another day, such as one taken just after midnight.
-- Part of station_density_hourly.
CREATE OR REPLACE TABLE wrm_analytics.misplaced_cell_hours AS
SELECT
    date,
    hour,
    grid_row,
    grid_column,
    sum(bikes_sum) AS bikes_sum,
    CAST(sum(mobile_bikes_sum) AS BIGINT) AS mobile_bikes_sum,
    CAST(sum(snapshots) AS BIGINT) AS snapshots
FROM working.partials.misplaced_cells
GROUP BY date, hour, grid_row, grid_column
ORDER BY date, hour, grid_row, grid_column;
