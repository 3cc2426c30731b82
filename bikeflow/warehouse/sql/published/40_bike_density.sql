-- Grid cells of 1000 m² that hold a station or a free bike in the newest snapshot, inside the service area. The grid
-- begins where the equator meets the prime meridian and never moves, so that a cell keeps its id. Rows are
-- 31.62 m high at the latitude of Wrocław (less than 1 % off anywhere else), columns 31.62 m wide at the middle of
-- their row.
CREATE OR REPLACE VIEW main.bike_density AS
SELECT
    system_id,
    grid_row || ':' || grid_column AS cell_id,
    (grid_row + 0.5) * parts.grid_row_degrees() AS grid_lat,
    (grid_column + 0.5) * column_degrees AS grid_lon,
    grid_row * parts.grid_row_degrees() AS min_lat,
    (grid_row + 1) * parts.grid_row_degrees() AS max_lat,
    grid_column * column_degrees AS min_lon,
    (grid_column + 1) * column_degrees AS max_lon,
    bike_count,
    station_count,
    mobile_bike_count,
    density_per_1000m2,
    stations
FROM (
    SELECT
        system_id,
        grid_row,
        grid_column,
        parts.grid_column_degrees(grid_row) AS column_degrees,
        CAST(least(coalesce(sum(bikes), 0), 9223372036854775807) AS BIGINT) AS bike_count,
        count(*) FILTER (WHERE record_type = 'station') AS station_count,
        count(*) FILTER (WHERE record_type = 'bike') AS mobile_bike_count,
        CAST(coalesce(sum(bikes), 0) AS DOUBLE) AS density_per_1000m2,
        coalesce(list(station_id ORDER BY station_id) FILTER (WHERE record_type = 'station'), []) AS stations
    FROM (
        SELECT *, parts.grid_column(lon, grid_row) AS grid_column
        FROM (
            SELECT system_id, station_id, record_type, bikes, lon, parts.grid_row(lat) AS grid_row
            FROM main.current_rows
            WHERE record_type IN ('station', 'bike')
                AND lat IS NOT NULL
                AND NOT list_contains(quality_flags, 'outside_service_area')
        )
    )
    GROUP BY system_id, grid_row, grid_column
)
ORDER BY system_id, bike_count DESC, cell_id;
