-- The newest row of each station, also of those that the feed no longer names.
CREATE OR REPLACE VIEW wrm_analytics.wrm_stations_latest AS
SELECT * EXCLUDE (is_latest, is_newest)
FROM wrm_analytics.wrm_current_rows
WHERE is_latest;
