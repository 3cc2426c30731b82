-- The grid's cells in the 24 hours up to the newest snapshot's: bikes in the mean of each hour.
SELECT
    CAST(epoch(date + to_hours(hour)) AS BIGINT) AS "at",
    cell_id,
    min_lat,
    min_lon,
    max_lat,
    max_lon,
    round(mean_bike_count, 1) AS bikes
FROM station_density_hourly
WHERE date >= CAST(getvariable('newest_snapshot') AS DATE) - 1
    AND date + to_hours(hour) > getvariable('newest_snapshot') - INTERVAL 24 HOUR
    AND date + to_hours(hour) <= getvariable('newest_snapshot')
