-- Sums over the grid's cells by the hour of the snapshot, and a row without a cell for each hour: how many snapshots the
-- sums are of. The grid is that of bike_density.
WITH placed AS (
    SELECT
        CAST(hour(file_timestamp) AS INTEGER) AS hour,
        file_timestamp,
        s3_source_key,
        bikes,
        record_type,
        record_type IN ('station', 'bike') AND NOT list_contains(quality_flags, 'outside_service_area') AS counts,
        partials.grid_row_degrees() AS row_degrees,
        CAST(floor(lat / row_degrees) AS BIGINT) AS grid_row,
        partials.grid_column_degrees((grid_row + 0.5) * row_degrees) AS column_degrees,
        CAST(floor(lon / column_degrees) AS BIGINT) AS grid_column
    FROM read_parquet($file, hive_partitioning = false)
)
SELECT
    hour,
    grid_row || ':' || grid_column AS cell_id,
    (grid_row + 0.5) * any_value(row_degrees) AS grid_lat,
    (grid_column + 0.5) * any_value(column_degrees) AS grid_lon,
    grid_row * any_value(row_degrees) AS min_lat,
    (grid_row + 1) * any_value(row_degrees) AS max_lat,
    grid_column * any_value(column_degrees) AS min_lon,
    (grid_column + 1) * any_value(column_degrees) AS max_lon,
    sum(CAST(bikes AS DOUBLE)) AS bikes_sum,
    count(*) FILTER (WHERE record_type = 'bike') AS mobile_bikes_sum,
    NULL AS snapshots
FROM placed
WHERE counts
GROUP BY hour, grid_row, grid_column
UNION ALL BY NAME
SELECT hour, count(DISTINCT (file_timestamp, s3_source_key)) AS snapshots
FROM placed
GROUP BY hour
ORDER BY hour, cell_id
