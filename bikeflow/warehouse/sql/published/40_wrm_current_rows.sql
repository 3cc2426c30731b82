-- All rows of the newest snapshot: the one that was taken last by its file's time, whatever times are inside it. One that
-- is dated in the future is not the newest before its time comes. wrm_stations_latest, wrm_bikes_latest and bike_density
-- are made of it.
CREATE OR REPLACE TABLE wrm_analytics.wrm_current_rows AS
SELECT * EXCLUDE (segment)
FROM working.partials.current_picked
WHERE s3_source_key = getvariable('newest_source_key')
ORDER BY station_id;
