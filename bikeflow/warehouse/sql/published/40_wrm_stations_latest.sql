-- The newest row of each station, also of those that the feed no longer names.
CREATE OR REPLACE TABLE wrm_analytics.wrm_stations_latest AS
SELECT * EXCLUDE (segment)
FROM working.partials.month_latest
WHERE rowid IN (
    SELECT arg_max(rowid, ("timestamp", file_timestamp, s3_source_key))
    FROM working.partials.month_latest
    GROUP BY station_id
)
ORDER BY station_id;
