-- The free bikes of the newest snapshot; none where that snapshot saw none.
CREATE OR REPLACE TABLE wrm_analytics.wrm_bikes_latest AS
SELECT * EXCLUDE (segment)
FROM working.partials.segment_bikes
WHERE file_timestamp = (SELECT max(newest_snapshot) FROM working.partials.segments)
ORDER BY station_id, s3_source_key;
