-- Each station hour by hour: how often it was observed, and its bikes and spaces. Date and hour (0 to 23) are those of the
-- snapshot (UTC), whichever day's folder it lies in. A filter on date or station_id reads little.
CREATE OR REPLACE VIEW wrm_analytics.station_hourly AS
SELECT
    station_id,
    date,
    hour,
    CAST(sum(observations) AS BIGINT) AS observations,
    sum(bikes_sum) / sum(observations) AS mean_bikes,
    min(bikes_min) AS min_bikes,
    max(bikes_max) AS max_bikes,
    sum(spaces_sum) / sum(observations) AS mean_spaces,
    min(spaces_min) AS min_spaces,
    max(spaces_max) AS max_spaces
FROM (
    SELECT * EXCLUDE (dt), dt AS date
    FROM {station_hours}
    UNION ALL BY NAME
    FROM wrm_analytics.misplaced_station_hours
)
GROUP BY station_id, date, hour;
