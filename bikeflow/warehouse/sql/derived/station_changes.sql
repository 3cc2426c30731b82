-- The log of the stations' states within a partition: a row when a station is first seen or has other bikes, spaces or
-- docks than before, and one (is_there is false) at the first snapshot that no longer has it. A row without a station
-- counts snapshots of an hour.
WITH seen AS (
    SELECT
        partition_number,
        ordinal,
        station_id,
        bikes,
        spaces,
        total_docks,
        lag(station_id) OVER in_time = station_id
            AND lag(partition_number) OVER in_time = partition_number
            AND lag(ordinal) OVER in_time = ordinal - 1
            AND lag(bikes) OVER in_time IS NOT DISTINCT FROM bikes
            AND lag(spaces) OVER in_time IS NOT DISTINCT FROM spaces
            AND lag(total_docks) OVER in_time IS NOT DISTINCT FROM total_docks AS is_same,
        lead(station_id) OVER in_time = station_id
            AND lead(partition_number) OVER in_time = partition_number
            AND lead(ordinal) OVER in_time = ordinal + 1 AS is_next
    FROM temp.observations
    WHERE ordinal IS NOT NULL
    WINDOW in_time AS (ORDER BY station_id, number)
)
SELECT
    system_id,
    dt,
    station_id,
    taken_at AS began_at,
    ordinal,
    CAST(NULL AS BIGINT) AS snapshots,
    bikes,
    spaces,
    total_docks,
    true AS is_there,
    false AS is_last
FROM seen
JOIN temp.snapshots USING (partition_number, ordinal)
WHERE NOT coalesce(is_same, false)
UNION ALL BY NAME
SELECT system_id, dt, station_id, taken_at AS began_at, following.ordinal, false AS is_there, false AS is_last
FROM seen
JOIN temp.snapshots AS following
    ON following.partition_number = seen.partition_number AND following.ordinal = seen.ordinal + 1
WHERE NOT coalesce(is_next, false)
UNION ALL BY NAME
SELECT
    system_id,
    dt,
    date_trunc('hour', taken_at) AS began_at,
    min(ordinal) AS ordinal,
    count(*) AS snapshots,
    false AS is_last
FROM temp.snapshots
GROUP BY ALL
