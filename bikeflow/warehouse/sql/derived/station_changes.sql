-- The log of the stations' states within a partition: a row when a station is first seen or has other bikes, spaces or
-- docks than before, and one (is_there is false) at the first snapshot that no longer has it. A row without a station
-- is a snapshot. What the log tells already comes first: it goes on from there.
WITH former AS (
    SELECT
        partition_number,
        station_id,
        max_by({'bikes': bikes, 'spaces': spaces, 'total_docks': total_docks, 'is_there': is_there}, log.ordinal) AS was,
        max(log.ordinal) + 1 AS snapshots
    FROM state.station_changes AS log
    JOIN (SELECT DISTINCT system_id, dt, partition_number FROM temp.snapshots) USING (system_id, dt)
    GROUP BY partition_number, station_id
),
snapshots AS (
    SELECT added.*, ordinal + coalesce(former.snapshots, 0) AS number_in_day
    FROM temp.snapshots AS added
    LEFT JOIN former ON former.partition_number = added.partition_number AND former.station_id IS NULL
),
seen AS (
    SELECT
        *,
        lag(station_id) OVER in_time = station_id
            AND lag(partition_number) OVER in_time = partition_number
            AND lag(ordinal) OVER in_time = ordinal - 1
            AND lag(bikes) OVER in_time IS NOT DISTINCT FROM bikes
            AND lag(spaces) OVER in_time IS NOT DISTINCT FROM spaces
            AND lag(total_docks) OVER in_time IS NOT DISTINCT FROM total_docks AS is_same,
        lead(station_id) OVER in_time = station_id
            AND lead(partition_number) OVER in_time = partition_number
            AND lead(ordinal) OVER in_time = ordinal + 1 AS is_next
    FROM (
        SELECT partition_number, ordinal, station_id, bikes, spaces, total_docks
        FROM temp.observations
        WHERE ordinal IS NOT NULL
        UNION ALL
        SELECT partition_number, -1, station_id, was.bikes, was.spaces, was.total_docks
        FROM former
        WHERE was.is_there
    )
    WINDOW in_time AS (ORDER BY station_id, partition_number, ordinal)
)
SELECT
    system_id,
    dt,
    station_id,
    taken_at AS began_at,
    number_in_day AS ordinal,
    if(is_there, bikes, NULL) AS bikes,
    if(is_there, spaces, NULL) AS spaces,
    if(is_there, total_docks, NULL) AS total_docks,
    is_there,
    false AS is_last
FROM (
    SELECT *, unnest([true, false]) AS is_there
    FROM seen
    WHERE is_same IS NOT TRUE
        OR is_next IS NOT TRUE
) AS seen
JOIN snapshots
    ON snapshots.partition_number = seen.partition_number
    AND snapshots.ordinal = if(is_there, seen.ordinal, seen.ordinal + 1)
WHERE if(is_there, is_same, is_next) IS NOT TRUE
UNION ALL BY NAME
SELECT system_id, dt, taken_at AS began_at, number_in_day AS ordinal, false AS is_last
FROM snapshots
