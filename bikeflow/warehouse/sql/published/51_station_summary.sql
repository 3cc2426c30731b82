-- One row a station over all history. Shares of time are weighted by how long a state lasted, not by how often it was
-- polled: an observation lasts until the station's next one, 30 minutes at most, as nobody knows what happened in a gap.
-- A station is empty while it has no bikes, full while it has no spaces. Occupancy is bikes / (bikes + spaces).
CREATE OR REPLACE TABLE wrm_analytics.station_summary AS
SELECT
    station_id,
    name,
    lat,
    lon,
    total_docks,
    observations,
    first_seen,
    last_seen,
    bikes_sum / observations AS mean_bikes,
    bikes_min AS min_bikes,
    bikes_max AS max_bikes,
    CAST(occupancy_sum AS DOUBLE) / nullif(occupancy_count, 0) AS mean_occupancy,
    empty_us / nullif(observed_us, 0) AS share_empty,
    full_us / nullif(observed_us, 0) AS share_full,
    observed_us / 1e6 AS observed_seconds
FROM working.partials.joined_spans('working.partials.current_spans', 'dt=', 'dt>')
JOIN wrm_analytics.wrm_stations_latest USING (station_id)
ORDER BY station_id;
