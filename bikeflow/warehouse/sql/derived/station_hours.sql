-- Sums and extremes of each station by the snapshot's own day and hour (UTC).
SELECT system_id, dt, hours.* EXCLUDE (partition_number)
FROM (
    SELECT
        partition_number,
        station_id,
        CAST(file_timestamp AS DATE) AS date,
        CAST(hour(file_timestamp) AS INTEGER) AS hour,
        count(*) AS observations,
        count(bikes) AS bikes_known,
        coalesce(sum(CAST(bikes AS DOUBLE)), 0) AS bikes_sum,
        min(bikes) AS bikes_min,
        max(bikes) AS bikes_max,
        count(spaces) AS spaces_known,
        coalesce(sum(CAST(spaces AS DOUBLE)), 0) AS spaces_sum,
        min(spaces) AS spaces_min,
        max(spaces) AS spaces_max
    FROM temp.observations
    GROUP BY ALL
) AS hours
JOIN (SELECT DISTINCT partition_number, system_id, dt FROM temp.sources) USING (partition_number)
