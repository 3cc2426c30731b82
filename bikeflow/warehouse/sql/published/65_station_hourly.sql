-- Each station hour by hour: in how many snapshots it was seen, and its bikes and spaces. Means are weighted by how long
-- a state is known to have lasted; unknown time (a gap in coverage, or a snapshot without the station) is told beside
-- them, and never filled in. Date and hour (0 to 23) are UTC; the local ones are those of the system's time zone when
-- the hour begins. A filter on date, station_id or system_id reads little.
CREATE OR REPLACE VIEW main.station_hourly AS
SELECT
    system_id,
    station_id,
    date,
    CAST(hour(hour_at) AS INTEGER) AS hour,
    observations,
    mean_bikes,
    min_bikes,
    max_bikes,
    mean_spaces,
    min_spaces,
    max_spaces,
    CAST(parts.local_time(hour_at, timezone) AS DATE) AS local_date,
    CAST(hour(parts.local_time(hour_at, timezone)) AS INTEGER) AS local_hour,
    known_seconds,
    hour_us / 1e6 - known_seconds AS unknown_seconds,
    empty_seconds,
    full_seconds
FROM (
    SELECT
        system_id,
        station_id,
        date,
        hour_at,
        CAST(sum(observations) AS BIGINT) AS observations,
        sum(CAST(bikes AS DOUBLE) * us) / nullif(sum(if(bikes IS NULL, 0, us)), 0) AS mean_bikes,
        min(bikes) FILTER (WHERE us > 0) AS min_bikes,
        max(bikes) FILTER (WHERE us > 0) AS max_bikes,
        sum(CAST(spaces AS DOUBLE) * us) / nullif(sum(if(spaces IS NULL, 0, us)), 0) AS mean_spaces,
        min(spaces) FILTER (WHERE us > 0) AS min_spaces,
        max(spaces) FILTER (WHERE us > 0) AS max_spaces,
        sum(if(bikes IS NULL, 0, us)) / 1e6 AS known_seconds,
        sum(if(parts.is_empty(bikes, spaces), us, 0)) / 1e6 AS empty_seconds,
        sum(if(parts.is_full(bikes, spaces, total_docks), us, 0)) / 1e6 AS full_seconds,
        any_value(hour_us) AS hour_us
    FROM (
        SELECT *, if(known, epoch_us(ended_at) - epoch_us(began_at), 0) AS us
        FROM main.station_parts
    )
    GROUP BY ALL
    HAVING sum(us) > 0 OR sum(observations) > 0
)
JOIN main.systems USING (system_id);
