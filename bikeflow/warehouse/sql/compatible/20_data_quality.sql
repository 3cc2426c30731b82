-- The system's rows of main.data_quality, which tells what they mean.
CREATE OR REPLACE VIEW wrm_analytics.data_quality AS
SELECT * EXCLUDE (system_id)
FROM main.data_quality
WHERE system_id = {system};
