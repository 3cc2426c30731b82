-- The grid's cells hour by hour (UTC), as bike_density has them now: bikes at stations and free ones inside the service
-- area, in the mean of the time in which the state of the system is known, that included in which the cell had nothing.
-- What a snapshot says lasts until the next one (see snapshot_parts). Each station and free bike counts where the snapshot
-- says that it is, so that it does not matter whether ids change; it does not count while that place is unknown or outside
-- the service area. A cell in which nothing stood in all the known time of the hour has no row. A filter on date or
-- system_id reads the files of that day and the one before.
CREATE OR REPLACE VIEW main.station_density_hourly AS
WITH seen AS (
    SELECT * REPLACE (dt AS date)
    FROM {files}
    UNION ALL
    -- a day begins with what the last snapshots of the one before tell
    SELECT * REPLACE (next_dt AS date)
    FROM {files}
),
told AS (
    SELECT
        system_id,
        date,
        hour_at,
        known_us,
        hour_us,
        unnest(
            [
                {'record_type': 'station', 's3_source_key': stations_key},
                {'record_type': 'bike', 's3_source_key': bikes_key}
            ],
            recursive := true
        )
    FROM main.snapshot_parts
)
SELECT
    system_id,
    grid_row || ':' || grid_column AS cell_id,
    date,
    CAST(hour(hour_at) AS INTEGER) AS hour,
    (grid_row + 0.5) * parts.grid_row_degrees() AS grid_lat,
    (grid_column + 0.5) * column_degrees AS grid_lon,
    grid_row * parts.grid_row_degrees() AS min_lat,
    (grid_row + 1) * parts.grid_row_degrees() AS max_lat,
    grid_column * column_degrees AS min_lon,
    (grid_column + 1) * column_degrees AS max_lon,
    bikes_us / hour_us AS mean_bike_count,
    mobile_us / hour_us AS mean_mobile_bike_count,
    CAST(parts.local_time(hour_at, timezone) AS DATE) AS local_date,
    CAST(hour(parts.local_time(hour_at, timezone)) AS INTEGER) AS local_hour,
    hour_us / 1e6 AS known_seconds
FROM (
    SELECT
        system_id,
        date,
        hour_at,
        hour_us,
        grid_row,
        grid_column,
        parts.grid_column_degrees(grid_row) AS column_degrees,
        sum(bikes_us) AS bikes_us,
        sum(mobile_us) AS mobile_us
    FROM (
        SELECT *, parts.grid_column(lon, grid_row) AS grid_column
        FROM (
            -- many rows share a position: these are added up first
            SELECT
                system_id,
                date,
                hour_at,
                hour_us,
                parts.grid_row(lat) AS grid_row,
                lon,
                sum(CAST(coalesce(bikes, 0) AS DOUBLE) * known_us) AS bikes_us,
                sum(if(record_type = 'bike', known_us, 0)) AS mobile_us
            FROM seen
            JOIN told USING (system_id, date, record_type, s3_source_key)
            WHERE lat IS NOT NULL
                AND NOT list_contains(quality_flags, 'outside_service_area')
            GROUP BY system_id, date, hour_at, hour_us, lat, lon
        )
    )
    GROUP BY ALL
)
LEFT JOIN main.systems USING (system_id);
