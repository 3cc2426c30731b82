-- The stations in the 24 hours up to the newest snapshot's: bikes in the mean of each hour.
SELECT CAST(epoch(date + to_hours(hour)) AS BIGINT) AS "at", station_id, round(mean_bikes, 1) AS bikes
FROM station_hourly
WHERE date >= CAST(getvariable('newest_snapshot') AS DATE) - 1
    AND date + to_hours(hour) > getvariable('newest_snapshot') - INTERVAL 24 HOUR
    AND date + to_hours(hour) <= getvariable('newest_snapshot')
