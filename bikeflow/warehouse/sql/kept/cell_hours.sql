-- Sums over the grid's cells by the hour of the snapshot, inside the service area, and a row without a cell for each hour:
-- how many snapshots the sums are of. The grid is that of bike_density. Many rows share a position, so that these are
-- counted first. Snapshots of another day than the segment's are in misplaced_cell_hours.
SELECT
    hour,
    grid_row,
    grid_column,
    sum(bikes_sum) AS bikes_sum,
    CAST(sum(mobile_bikes_sum) AS BIGINT) AS mobile_bikes_sum,
    NULL AS snapshots
FROM (
    SELECT *, partials.grid_column(lon, grid_row) AS grid_column
    FROM (
        SELECT
            CAST(hour(file_timestamp) AS INTEGER) AS hour,
            partials.grid_row(lat) AS grid_row,
            lon,
            sum(CAST(bikes AS DOUBLE)) AS bikes_sum,
            count(*) FILTER (WHERE record_type = 'bike') AS mobile_bikes_sum
        FROM temp.segment_rows
        WHERE CAST(file_timestamp AS DATE) = "date"
            AND record_type <> 'unknown'
            AND NOT list_contains(quality_flags, 'outside_service_area')
        GROUP BY hour, lat, lon
    )
)
GROUP BY hour, grid_row, grid_column
UNION ALL BY NAME
SELECT CAST(hour(file_timestamp) AS INTEGER) AS hour, count(*) AS snapshots
FROM temp.sources
WHERE CAST(file_timestamp AS DATE) = "date"
GROUP BY ALL
