-- The newest 2,000 runs of the processors over the dirty segments of a partition: when, how they ended, what they gave.
CREATE OR REPLACE TABLE main.pipeline_runs AS
SELECT system_id, * EXCLUDE (system_id, number)
FROM working.state.runs
ORDER BY number DESC;
