-- The newest 2,000 runs of the processors over the dirty segments of a partition: when, how they ended, what they gave.
CREATE OR REPLACE TABLE wrm_analytics.pipeline_runs AS
SELECT * EXCLUDE (number)
FROM working.partials.runs
ORDER BY number DESC;
