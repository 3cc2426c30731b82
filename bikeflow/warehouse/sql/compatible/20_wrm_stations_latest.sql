-- The stations of the system's newest snapshot.
CREATE OR REPLACE VIEW wrm_analytics.wrm_stations_latest AS
SELECT * EXCLUDE (system_id)
FROM main.stations_latest
WHERE system_id = {system};
