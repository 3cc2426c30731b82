-- The newest state of each station, also of those that the feed no longer names.
SELECT
    station_id,
    name,
    lat,
    lon,
    bikes,
    spaces,
    total_docks,
    pedelecs,
    installed,
    locked,
    temporary,
    quality_flags,
    "timestamp",
    file_timestamp
FROM wrm_stations_latest
ORDER BY station_id
