-- Sums over the grid's cells by the snapshot's own day and hour (UTC), inside the service area, and a row without a cell
-- for each hour: how many snapshots the sums are of. The grid is that of bike_density. Many rows share a position, so
-- that these are counted first.
SELECT
    system_id,
    dt,
    own_date AS date,
    hour,
    grid_row,
    grid_column,
    sum(bikes_sum) AS bikes_sum,
    CAST(sum(mobile_bikes_sum) AS BIGINT) AS mobile_bikes_sum,
    CAST(NULL AS BIGINT) AS snapshots
FROM (
    SELECT *, state.grid_column(lon, grid_row) AS grid_column
    FROM (
        SELECT
            system_id,
            dt,
            CAST(file_timestamp AS DATE) AS own_date,
            CAST(hour(file_timestamp) AS INTEGER) AS hour,
            state.grid_row(lat) AS grid_row,
            lon,
            coalesce(sum(CAST(bikes AS DOUBLE)), 0) AS bikes_sum,
            count(*) FILTER (WHERE record_type = 'bike') AS mobile_bikes_sum
        FROM temp.read_rows
        WHERE record_type <> 'unknown'
            AND lat IS NOT NULL
            AND NOT list_contains(quality_flags, 'outside_service_area')
        GROUP BY system_id, dt, own_date, hour, lat, lon
    )
)
GROUP BY system_id, dt, own_date, hour, grid_row, grid_column
UNION ALL BY NAME
SELECT
    system_id,
    dt,
    CAST(file_timestamp AS DATE) AS date,
    CAST(hour(file_timestamp) AS INTEGER) AS hour,
    count(*) AS snapshots
FROM temp.sources
WHERE file_timestamp IS NOT NULL
GROUP BY ALL
