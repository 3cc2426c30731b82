-- main.bike_density of the system.
CREATE OR REPLACE VIEW wrm_analytics.bike_density AS
SELECT * EXCLUDE (system_id)
FROM main.bike_density
WHERE system_id = {system};
