-- The system's rows of main.station_summary, which tells what they mean.
CREATE OR REPLACE VIEW wrm_analytics.station_summary AS
SELECT * EXCLUDE (system_id)
FROM main.station_summary
WHERE system_id = {system};
