-- The system's rows of main.bike_density, which tells what they mean.
CREATE OR REPLACE VIEW wrm_analytics.bike_density AS
SELECT * EXCLUDE (system_id)
FROM main.bike_density
WHERE system_id = {system};
