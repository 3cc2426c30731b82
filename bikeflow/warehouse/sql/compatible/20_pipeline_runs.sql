-- The system's rows of main.pipeline_runs, which tells what they mean.
CREATE OR REPLACE VIEW wrm_analytics.pipeline_runs AS
SELECT * EXCLUDE (system_id)
FROM main.pipeline_runs
WHERE system_id = {system};
