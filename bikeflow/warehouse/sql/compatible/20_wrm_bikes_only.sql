-- Every enhanced row of a free-floating bike of the system (record_type bike), newest first.
CREATE OR REPLACE VIEW wrm_analytics.wrm_bikes_only AS
SELECT *
FROM wrm_analytics.wrm_history
WHERE record_type = 'bike'
ORDER BY file_timestamp DESC, "timestamp" DESC;
