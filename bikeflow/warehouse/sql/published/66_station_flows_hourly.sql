-- Departures and arrivals of each station hour by hour, as seen from its counts of bikes: the sums of all decreases and
-- of all increases from one snapshot to the next. They are lower bounds: a bike that comes and one that goes between two
-- snapshots are not seen, and bikes that the operator moves are seen as well. A change across a gap in coverage,
-- while the station was not in the feed, or to or from having neither bikes nor spaces (it is closed for a while), does
-- not count. Hours without known time have no row. Date and hour are UTC; the
-- local ones are those of the system's time zone. A filter on date, station_id or system_id reads little.
CREATE OR REPLACE VIEW main.station_flows_hourly AS
SELECT
    system_id,
    station_id,
    date,
    CAST(hour(hour_at) AS INTEGER) AS hour,
    departures,
    arrivals,
    arrivals - departures AS net_change,
    CAST(parts.local_time(hour_at, timezone) AS DATE) AS local_date,
    CAST(hour(parts.local_time(hour_at, timezone)) AS INTEGER) AS local_hour,
    known_us / 1e6 AS known_seconds,
    (hour_us - known_us) / 1e6 AS unknown_seconds
FROM (
    SELECT
        system_id,
        station_id,
        date,
        hour_at,
        CAST(-coalesce(sum(change) FILTER (WHERE change < 0), 0) AS BIGINT) AS departures,
        CAST(coalesce(sum(change) FILTER (WHERE change > 0), 0) AS BIGINT) AS arrivals,
        CAST(sum(if(known AND bikes IS NOT NULL, epoch_us(ended_at) - epoch_us(began_at), 0)) AS BIGINT) AS known_us,
        any_value(hour_us) AS hour_us
    FROM main.station_parts
    GROUP BY ALL
    HAVING known_us > 0
)
JOIN main.systems USING (system_id);
