-- The grid's cells hour by hour, as bike_density has them now: bikes at stations and free ones, in the mean of the hour's
-- snapshots, those included that saw nothing in the cell. Date and hour (0 to 23) are those of the snapshot (UTC),
-- whichever day's folder it lies in. A filter on date reads little.
CREATE OR REPLACE VIEW wrm_analytics.station_density_hourly AS
SELECT
    grid_row || ':' || grid_column AS cell_id,
    date,
    hour,
    (grid_row + 0.5) * parts.grid_row_degrees() AS grid_lat,
    (grid_column + 0.5) * column_degrees AS grid_lon,
    grid_row * parts.grid_row_degrees() AS min_lat,
    (grid_row + 1) * parts.grid_row_degrees() AS max_lat,
    grid_column * column_degrees AS min_lon,
    (grid_column + 1) * column_degrees AS max_lon,
    mean_bike_count,
    mean_mobile_bike_count
FROM (
    SELECT
        date,
        hour,
        grid_row,
        grid_column,
        parts.grid_column_degrees(grid_row) AS column_degrees,
        sum(bikes_sum) / sum(sum(snapshots)) OVER in_hour AS mean_bike_count,
        sum(mobile_bikes_sum) / sum(sum(snapshots)) OVER in_hour AS mean_mobile_bike_count
    FROM (
        SELECT * EXCLUDE (dt), dt AS date
        FROM {cell_hours}
        UNION ALL BY NAME
        FROM wrm_analytics.misplaced_cell_hours
    )
    GROUP BY date, hour, grid_row, grid_column
    WINDOW in_hour AS (PARTITION BY date, hour)
)
WHERE grid_row IS NOT NULL;
