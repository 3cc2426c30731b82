-- main.station_summary of the system.
CREATE OR REPLACE VIEW wrm_analytics.station_summary AS
SELECT * EXCLUDE (system_id)
FROM main.station_summary
WHERE system_id = {system};
