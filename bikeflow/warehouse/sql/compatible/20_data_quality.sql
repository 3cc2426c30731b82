-- main.data_quality of the system.
CREATE OR REPLACE VIEW wrm_analytics.data_quality AS
SELECT * EXCLUDE (system_id)
FROM main.data_quality
WHERE system_id = {system};
