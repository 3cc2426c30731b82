-- Every enhanced row of the system, in no particular order: the one to aggregate over long times.
CREATE OR REPLACE VIEW wrm_analytics.wrm_history AS
SELECT * EXCLUDE (system_id)
FROM main.history
WHERE system_id = {system};
