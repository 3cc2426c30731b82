-- Every enhanced row (history), newest first. An aggregate over a long time is quicker over wrm_history, the same rows
-- unsorted.
CREATE OR REPLACE VIEW wrm_analytics.wrm_stations_enhanced_data AS
SELECT *
FROM wrm_analytics.wrm_history
ORDER BY file_timestamp DESC, "timestamp" DESC;
