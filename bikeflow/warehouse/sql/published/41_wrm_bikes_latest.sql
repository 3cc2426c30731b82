-- The free bikes of the newest snapshot; none where that snapshot saw none.
CREATE OR REPLACE TABLE wrm_analytics.wrm_bikes_latest AS
SELECT * EXCLUDE (segment)
FROM working.partials.segment_newest
WHERE record_type = 'bike'
    AND segment = getvariable('newest_segment')
ORDER BY station_id;
