-- Sums and extremes of each station by the hour of the snapshot. Where segments are shorter than an hour, or cut it, an
-- hour lies in several files. Snapshots of another day than the segment's are in misplaced_station_hours.
SELECT
    station_id,
    CAST(hour(file_timestamp) AS INTEGER) AS hour,
    count(*) AS observations,
    sum(CAST(bikes AS DOUBLE)) AS bikes_sum,
    min(bikes) AS bikes_min,
    max(bikes) AS bikes_max,
    sum(CAST(spaces AS DOUBLE)) AS spaces_sum,
    min(spaces) AS spaces_min,
    max(spaces) AS spaces_max
FROM temp.observations
WHERE CAST(file_timestamp AS DATE) = "date"
GROUP BY ALL
ORDER BY station_id, hour
