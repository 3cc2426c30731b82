-- The fleet hour by hour (UTC): bikes at stations and free ones, inside the service area and outside, in the mean of the
-- time in which the state of the system is known. What a snapshot says lasts until the next one that has a station or a
-- bike (see snapshot_parts). A vehicle that stands at a station counts there, if the feed says so. Hours of which nothing
-- is known have no row. A filter on date or system_id reads little.
CREATE OR REPLACE VIEW main.fleet_hourly AS
SELECT
    system_id,
    date,
    CAST(hour(hour_at) AS INTEGER) AS hour,
    CAST(parts.local_time(hour_at, timezone) AS DATE) AS local_date,
    CAST(hour(parts.local_time(hour_at, timezone)) AS INTEGER) AS local_hour,
    sum(station_bikes * known_us) / sum(known_us) AS mean_station_bikes,
    sum(station_bikes_outside * known_us) / sum(known_us) AS mean_station_bikes_outside,
    sum(free_bikes * known_us) / sum(known_us) AS mean_free_bikes,
    sum(free_bikes_outside * known_us) / sum(known_us) AS mean_free_bikes_outside,
    sum((station_bikes + station_bikes_outside + free_bikes + free_bikes_outside) * known_us) / sum(known_us)
        AS mean_bikes,
    sum(known_us) / 1e6 AS known_seconds
FROM main.snapshot_parts
LEFT JOIN main.systems USING (system_id)
GROUP BY system_id, date, hour_at, timezone;
