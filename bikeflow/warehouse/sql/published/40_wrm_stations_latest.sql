-- The newest row of each station, also of those that the feed no longer names.
CREATE OR REPLACE TABLE wrm_analytics.wrm_stations_latest AS
SELECT * EXCLUDE (segment)
FROM working.partials.segment_latest
SEMI JOIN (
    SELECT station_id, max("timestamp") AS "timestamp"
    FROM working.partials.segment_latest
    GROUP BY station_id
) AS newest USING (station_id, "timestamp")
QUALIFY row_number() OVER (PARTITION BY station_id ORDER BY file_timestamp DESC, s3_source_key DESC) = 1
ORDER BY station_id;
