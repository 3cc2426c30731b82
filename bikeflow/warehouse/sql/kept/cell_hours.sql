-- Sums over the grid's cells by the hour of the snapshot, and a row without a cell for each hour: how many snapshots the
-- sums are of. The grid is that of bike_density.
SELECT
    hour,
    grid_row || ':' || grid_column AS cell_id,
    (grid_row + 0.5) * row_degrees AS grid_lat,
    (grid_column + 0.5) * column_degrees AS grid_lon,
    grid_row * row_degrees AS min_lat,
    (grid_row + 1) * row_degrees AS max_lat,
    grid_column * column_degrees AS min_lon,
    (grid_column + 1) * column_degrees AS max_lon,
    sum(bikes_sum) AS bikes_sum,
    CAST(sum(mobile_bikes_sum) AS BIGINT) AS mobile_bikes_sum,
    NULL AS snapshots
FROM partials.gridded('temp.positions')
GROUP BY hour, grid_row, grid_column, row_degrees, column_degrees
UNION ALL BY NAME
SELECT CAST(hour(file_timestamp) AS INTEGER) AS hour, count(*) AS snapshots
FROM temp.snapshots
GROUP BY ALL
ORDER BY hour, cell_id
