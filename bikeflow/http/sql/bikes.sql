-- The free bikes of the newest snapshot.
SELECT
    station_id,
    name,
    lat,
    lon,
    battery_level,
    locked,
    pedelecs,
    quality_flags,
    "timestamp",
    file_timestamp
FROM wrm_bikes_latest
ORDER BY station_id
