-- What a partition saw of each station: extremes, how long each state lasted, and the state at its end, so that spans can
-- be joined; then what its newest row says it is. Times are those of the snapshots, in the order of their numbers. Sums of
-- bikes and of occupancy are weighted by how long they lasted (in microseconds); they are whole numbers and decimals, so
-- that they add up exactly in any order. Snapshots dated in the future do not count yet.
SELECT
    system_id,
    dt,
    spans.* EXCLUDE (partition_number, newest_row),
    {'name': name, 'lat': lat, 'lon': lon, 'total_docks': total_docks} AS newest
FROM (
    SELECT
        partition_number,
        station_id,
        arg_min(file_timestamp, number) AS began_at,
        arg_max(file_timestamp, number) AS ended_at,
        min(file_timestamp) AS first_seen,
        max(file_timestamp) AS last_seen,
        arg_max(row_number, number) AS newest_row,
        arg_max({'bikes': bikes, 'occupancy': occupancy, 'is_empty': is_empty, 'is_full': is_full}, number)
            AS last_state,
        count(*) AS observations,
        sum(lasting_us * CAST(coalesce(bikes, 0) AS HUGEINT)) AS bikes_us,
        min(bikes) AS bikes_min,
        max(bikes) AS bikes_max,
        sum(lasting_us * coalesce(occupancy, 0)) AS occupancy_us,
        CAST(sum(if(occupancy IS NULL, 0, lasting_us)) AS BIGINT) AS occupied_us,
        CAST(sum(lasting_us) AS BIGINT) AS observed_us,
        CAST(sum(if(is_empty, lasting_us, 0)) AS BIGINT) AS empty_us,
        CAST(sum(if(is_full, lasting_us, 0)) AS BIGINT) AS full_us
    FROM (
        SELECT
            partition_number,
            station_id,
            file_timestamp,
            bikes,
            CAST(bikes / nullif(CAST(bikes AS DOUBLE) + spaces, 0) AS DECIMAL(18, 15)) AS occupancy,
            state.is_empty(bikes, spaces) AS is_empty,
            state.is_full(bikes, spaces, total_docks) AS is_full,
            number,
            row_number,
            if(
                lead(station_id) OVER in_time = station_id
                    AND lead(partition_number) OVER in_time = partition_number,
                state.lasting_us(bikes, file_timestamp, lead(file_timestamp) OVER in_time),
                0
            ) AS lasting_us
        FROM temp.observations
        WHERE NOT is_future
        WINDOW in_time AS (ORDER BY station_id, number)
    )
    GROUP BY partition_number, station_id
) AS spans
JOIN temp.read_rows AS rows_read ON newest_row = rows_read.row_number
