-- Sums over the grid's cells by the hour of the snapshot, and a row without a cell for each hour: how many snapshots the
-- sums are of. The grid is that of bike_density.
SELECT
    hour,
    grid_row,
    grid_column,
    sum(bikes_sum) AS bikes_sum,
    CAST(sum(mobile_bikes_sum) AS BIGINT) AS mobile_bikes_sum,
    NULL AS snapshots
FROM (
    SELECT *, partials.grid_column(lon, grid_row) AS grid_column
    FROM (SELECT *, partials.grid_row(lat) AS grid_row FROM temp.positions)
)
GROUP BY hour, grid_row, grid_column
UNION ALL BY NAME
SELECT CAST(hour(file_timestamp) AS INTEGER) AS hour, count(*) AS snapshots
FROM temp.snapshots
GROUP BY ALL
