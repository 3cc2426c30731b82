-- The system's rows of main.station_density_hourly, which tells what they mean.
CREATE OR REPLACE VIEW wrm_analytics.station_density_hourly AS
SELECT * EXCLUDE (system_id)
FROM main.station_density_hourly
WHERE system_id = {system};
