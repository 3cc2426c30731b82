-- main.snapshot_days of the system.
CREATE OR REPLACE VIEW wrm_analytics.snapshot_days AS
SELECT * EXCLUDE (system_id)
FROM main.snapshot_days
WHERE system_id = {system};
