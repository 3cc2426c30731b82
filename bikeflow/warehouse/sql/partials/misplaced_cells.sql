-- The cell hours of snapshots that lie in the folder of another day than their own: too few for files of their own.
SELECT
    own_date AS date,
    hour,
    grid_row,
    grid_column,
    sum(bikes_sum) AS bikes_sum,
    CAST(sum(mobile_bikes_sum) AS BIGINT) AS mobile_bikes_sum,
    CAST(NULL AS BIGINT) AS snapshots
FROM (
    SELECT *, partials.grid_column(lon, grid_row) AS grid_column
    FROM (
        SELECT
            CAST(file_timestamp AS DATE) AS own_date,
            CAST(hour(file_timestamp) AS INTEGER) AS hour,
            partials.grid_row(lat) AS grid_row,
            lon,
            sum(CAST(bikes AS DOUBLE)) AS bikes_sum,
            count(*) FILTER (WHERE record_type = 'bike') AS mobile_bikes_sum
        FROM temp.segment_rows
        WHERE CAST(file_timestamp AS DATE) <> "date"
            AND record_type <> 'unknown'
            AND NOT list_contains(quality_flags, 'outside_service_area')
        GROUP BY own_date, hour, lat, lon
    )
)
GROUP BY own_date, hour, grid_row, grid_column
UNION ALL BY NAME
SELECT CAST(file_timestamp AS DATE) AS date, CAST(hour(file_timestamp) AS INTEGER) AS hour, count(*) AS snapshots
FROM temp.sources
WHERE CAST(file_timestamp AS DATE) <> "date"
GROUP BY ALL
