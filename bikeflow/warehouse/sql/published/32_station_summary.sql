-- One row a station over all history, also of those that the newest snapshot no longer has. Means and shares are weighted
-- by how long a state lasted, not by how often it was polled: an observation lasts until the station's next one, 30
-- minutes at most, as what happened in a longer gap is unknown; the newest one has not lasted yet. Name, place and docks
-- are those of the newest snapshot that it is in. Empty: no bike can be taken, though there is room for some. Full: it has
-- bikes, and the feed says no space, or the bikes are as many as the docks. Occupancy is bikes / (bikes + spaces).
CREATE OR REPLACE TABLE main.station_summary AS
SELECT
    system_id,
    station_id,
    newest.name AS name,
    newest.lat AS lat,
    newest.lon AS lon,
    newest.total_docks AS total_docks,
    observations,
    first_seen,
    last_seen,
    CAST(bikes_us AS DOUBLE) / nullif(observed_us, 0) AS mean_bikes,
    bikes_min AS min_bikes,
    bikes_max AS max_bikes,
    CAST(occupancy_us AS DOUBLE) / nullif(occupied_us, 0) AS mean_occupancy,
    empty_us / nullif(observed_us, 0) AS share_empty,
    if(occupied_us = 0 AND newest.total_docks IS NULL, NULL, full_us / nullif(observed_us, 0)) AS share_full,
    observed_us / 1e6 AS observed_seconds
FROM working.state.joined_spans('working.state.open_spans')
ORDER BY system_id, station_id;
