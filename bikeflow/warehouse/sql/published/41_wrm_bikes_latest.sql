-- The free bikes of the newest snapshot; none where that snapshot saw none.
CREATE OR REPLACE TABLE wrm_analytics.wrm_bikes_latest AS
SELECT * EXCLUDE (segment)
FROM working.partials.segment_bikes
WHERE s3_source_key = (
    SELECT max_by(newest_source_key, (newest_snapshot, newest_source_key))
    FROM working.partials.segments
)
ORDER BY station_id;
