-- Hours of station_hourly whose snapshots lie in the folder of another day, such as one taken just after midnight. Part of
-- station_hourly.
CREATE OR REPLACE TABLE wrm_analytics.misplaced_station_hours AS
SELECT
    station_id,
    date,
    hour,
    CAST(sum(observations) AS BIGINT) AS observations,
    sum(bikes_sum) AS bikes_sum,
    min(bikes_min) AS bikes_min,
    max(bikes_max) AS bikes_max,
    sum(spaces_sum) AS spaces_sum,
    min(spaces_min) AS spaces_min,
    max(spaces_max) AS spaces_max
FROM working.partials.misplaced_stations
GROUP BY station_id, date, hour
ORDER BY station_id, date, hour;
