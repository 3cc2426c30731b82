-- Every enhanced row of the system (history), newest first; wrm_history has the same rows unsorted.
CREATE OR REPLACE VIEW wrm_analytics.wrm_stations_enhanced_data AS
SELECT *
FROM wrm_analytics.wrm_history
ORDER BY file_timestamp DESC, "timestamp" DESC;
