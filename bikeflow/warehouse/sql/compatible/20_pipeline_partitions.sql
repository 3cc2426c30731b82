-- The system's rows of main.pipeline_partitions, which tells what they mean.
CREATE OR REPLACE VIEW wrm_analytics.pipeline_partitions AS
SELECT * EXCLUDE (system_id)
FROM main.pipeline_partitions
WHERE system_id = {system};
