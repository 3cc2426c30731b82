-- analytics.publication of the system.
CREATE OR REPLACE VIEW wrm_analytics.publication AS
SELECT * EXCLUDE (system_id)
FROM analytics.publication
WHERE system_id = {system};
