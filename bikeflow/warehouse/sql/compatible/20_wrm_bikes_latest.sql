-- The free bikes of the system's newest snapshot.
CREATE OR REPLACE VIEW wrm_analytics.wrm_bikes_latest AS
SELECT * EXCLUDE (system_id)
FROM main.bikes_latest
WHERE system_id = {system};
