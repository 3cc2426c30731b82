-- main.station_hourly of the system.
CREATE OR REPLACE VIEW wrm_analytics.station_hourly AS
SELECT * EXCLUDE (system_id)
FROM main.station_hourly
WHERE system_id = {system};
