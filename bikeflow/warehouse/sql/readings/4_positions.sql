-- What was counted where in which hour (that of the snapshot), inside the service area. Many rows share a position.
SELECT
    CAST(hour(file_timestamp) AS INTEGER) AS hour,
    lat,
    lon,
    sum(CAST(bikes AS DOUBLE)) AS bikes_sum,
    count(*) FILTER (WHERE record_type = 'bike') AS mobile_bikes_sum
FROM temp.segment_rows
WHERE record_type <> 'unknown'
    AND NOT list_contains(quality_flags, 'outside_service_area')
GROUP BY hour, lat, lon
