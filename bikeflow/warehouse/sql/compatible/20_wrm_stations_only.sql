-- Every enhanced row of a station of the system (record_type station), newest first.
CREATE OR REPLACE VIEW wrm_analytics.wrm_stations_only AS
SELECT *
FROM wrm_analytics.wrm_history
WHERE record_type = 'station'
ORDER BY file_timestamp DESC, "timestamp" DESC;
