-- The system's rows of main.publication, which tells what they mean.
CREATE OR REPLACE VIEW wrm_analytics.publication AS
SELECT * EXCLUDE (system_id)
FROM main.publication
WHERE system_id = {system};
