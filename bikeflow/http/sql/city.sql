-- The newest snapshot at a glance: its stations, how many of them are empty or full, and the bikes that stand there.
SELECT
    count(*) AS stations,
    count(*) FILTER (bikes = 0) AS empty_stations,
    count(*) FILTER (spaces = 0) AS full_stations,
    CAST(coalesce(sum(bikes), 0) AS BIGINT) AS bikes_at_stations,
    (SELECT count(*) FROM wrm_bikes_latest) AS free_bikes,
    max(file_timestamp) AS snapshot_at
FROM wrm_stations_latest
WHERE file_timestamp = getvariable('newest_snapshot')
