-- main.station_density_hourly of the system.
CREATE OR REPLACE VIEW wrm_analytics.station_density_hourly AS
SELECT * EXCLUDE (system_id)
FROM main.station_density_hourly
WHERE system_id = {system};
