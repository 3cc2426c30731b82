-- The system's rows of main.station_hourly, which tells what they mean.
CREATE OR REPLACE VIEW wrm_analytics.station_hourly AS
SELECT * EXCLUDE (system_id)
FROM main.station_hourly
WHERE system_id = {system};
