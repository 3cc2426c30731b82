-- The snapshots that tell of stations: those that have any, lie in the folder of their own day, and are not dated in the
-- future; of two at the same second the one whose key sorts last. ordinal is their number within the partition, from 0.
SELECT *, row_number() OVER (PARTITION BY partition_number ORDER BY number) - 1 AS ordinal
FROM (
    SELECT system_id, dt, partition_number, number, file_timestamp AS taken_at
    FROM temp.sources
    WHERE station_rows > 0
        AND NOT is_future
        AND CAST(file_timestamp AS DATE) = dt
    QUALIFY lead(number) OVER (PARTITION BY partition_number, file_timestamp ORDER BY number) IS NULL
)
