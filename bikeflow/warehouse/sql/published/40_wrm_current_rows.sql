-- The newest row of each station (is_latest), and all rows of the newest snapshot (is_newest): what
-- wrm_stations_latest, wrm_bikes_latest and bike_density are made of.
CREATE OR REPLACE TABLE wrm_analytics.wrm_current_rows AS
SELECT * EXCLUDE (segment, is_latest, place),
    place IS NOT NULL AS is_latest,
    s3_source_key = getvariable('newest_source_key') AS is_newest
FROM working.partials.current_picked AS picked
LEFT JOIN (
    SELECT arg_max(rowid, ("timestamp", file_timestamp, s3_source_key)) AS place
    FROM working.partials.current_picked
    WHERE is_latest
    GROUP BY station_id
) AS latest ON picked.rowid = place
WHERE place IS NOT NULL
    OR s3_source_key = getvariable('newest_source_key')
ORDER BY station_id, is_latest;
