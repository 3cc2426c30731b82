-- The newest state of each station, also of those that the feed no longer names.
SELECT
    station_id,
    name,
    lat,
    lon,
    bikes,
    spaces,
    total_docks,
    bikes = 0 AND spaces > 0 AS is_empty,
    bikes > 0 AND (spaces = 0 OR (total_docks > 0 AND bikes >= total_docks)) AS is_full,
    pedelecs,
    installed,
    locked,
    temporary,
    quality_flags,
    "timestamp",
    file_timestamp
FROM wrm_stations_latest
ORDER BY station_id
