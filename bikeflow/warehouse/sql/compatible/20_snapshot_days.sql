-- The system's rows of main.snapshot_days, which tells what they mean.
CREATE OR REPLACE VIEW wrm_analytics.snapshot_days AS
SELECT * EXCLUDE (system_id)
FROM main.snapshot_days
WHERE system_id = {system};
