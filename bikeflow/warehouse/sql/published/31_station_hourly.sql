-- Each station hour by hour: how often it was observed, and its bikes and spaces. Date and hour (0 to 23) are those of the
-- snapshot (UTC), whichever day's folder it lies in. A filter on date, station_id or system_id reads little.
CREATE OR REPLACE VIEW main.station_hourly AS
SELECT
    system_id,
    station_id,
    date,
    hour,
    CAST(sum(observations) AS BIGINT) AS observations,
    sum(bikes_sum) / nullif(sum(bikes_known), 0) AS mean_bikes,
    min(bikes_min) AS min_bikes,
    max(bikes_max) AS max_bikes,
    sum(spaces_sum) / nullif(sum(spaces_known), 0) AS mean_spaces,
    min(spaces_min) AS min_spaces,
    max(spaces_max) AS max_spaces
FROM (
    SELECT * EXCLUDE (dt), dt AS date
    FROM {station_hours}
    UNION ALL BY NAME
    FROM main.open_station_hours
)
GROUP BY system_id, station_id, date, hour;
