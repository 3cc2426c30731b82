-- Bikes at all stations inside the service area in the 24 hours up to the newest snapshot: the mean of each 10 minutes.
SELECT
    CAST(epoch(time_bucket(INTERVAL 10 MINUTE, file_timestamp)) AS BIGINT) AS "at",
    round(sum(bikes) / count(DISTINCT file_timestamp), 1) AS bikes
FROM wrm_history
WHERE date >= CAST(getvariable('newest_snapshot') AS DATE) - 1
    AND file_timestamp > getvariable('newest_snapshot') - INTERVAL 24 HOUR
    AND file_timestamp <= getvariable('newest_snapshot')
    AND record_type = 'station'
    AND NOT list_contains(quality_flags, 'outside_service_area')
GROUP BY ALL
ORDER BY "at"
