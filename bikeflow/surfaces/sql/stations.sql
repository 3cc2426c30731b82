-- The stations of the newest snapshot, and whether each is empty or full, or neither.
SELECT
    station_id,
    name,
    lat,
    lon,
    bikes,
    spaces,
    total_docks,
    parts.is_empty(bikes, spaces) AS is_empty,
    parts.is_full(bikes, spaces, total_docks) AS is_full,
    pedelecs,
    installed,
    locked,
    temporary,
    quality_flags,
    "timestamp",
    file_timestamp
FROM wrm_stations_latest
ORDER BY station_id
