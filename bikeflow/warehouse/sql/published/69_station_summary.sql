-- One row a station over all history, also of those that the newest snapshot no longer has. Means and shares are
-- weighted by how long a state is known to have lasted, not by how often it was polled; unknown time (a gap in coverage,
-- or a snapshot without the station) does not count. Name, place and docks are those of the newest snapshot that it is
-- in. Empty: no bike can be taken, though there is room for some. Full: it has bikes, and the feed says no space, or the
-- bikes are as many as the docks. Occupancy is bikes / (bikes + spaces).
CREATE OR REPLACE VIEW main.station_summary AS
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
    bikes_us / nullif(known_us, 0) AS mean_bikes,
    bikes_min AS min_bikes,
    bikes_max AS max_bikes,
    CAST(occupancy_us AS DOUBLE) / nullif(occupied_us, 0) AS mean_occupancy,
    empty_us / nullif(known_us, 0) AS share_empty,
    if(occupied_us = 0 AND newest.total_docks IS NULL, NULL, full_us / nullif(known_us, 0)) AS share_full,
    coalesce(known_us, 0) / 1e6 AS known_seconds
FROM main.station_spans
LEFT JOIN (
    SELECT system_id, station_id, sum(COLUMNS('_us$'))
    FROM (
        FROM main.station_totals
        UNION ALL BY NAME
        -- one name at a time: DuckDB keeps several in any order, and the same view would have two texts
        SELECT * EXCLUDE (dt)
        FROM (SELECT * EXCLUDE (docks) FROM parts.station_days('main.open_station_changes', 'main.coverage'))
    )
    GROUP BY system_id, station_id
) USING (system_id, station_id)
ORDER BY system_id, station_id;
