-- The system's rows of main.pipeline_files, which tells what they mean.
CREATE OR REPLACE VIEW wrm_analytics.pipeline_files AS
SELECT * EXCLUDE (system_id)
FROM main.pipeline_files
WHERE system_id = {system};
