-- What is usual at each station, by local weekday and hour: the median of its bikes, and the 10th and 90th percentile,
-- weighted by how long a count is known to have lasted, over the eight weeks of finished local days before before_date.
-- A percentile is the smallest count that was not exceeded for that share of the time. Departures and arrivals are
-- those of station_flows_hourly.
CREATE OR REPLACE VIEW main.station_usual AS
SELECT
    system_id,
    station_id,
    local_weekday,
    local_hour,
    p10,
    median,
    p90,
    days,
    known_seconds,
    empty_seconds,
    full_seconds,
    departures,
    arrivals,
    dt AS before_date
FROM {station_usual};
