-- The same as analytics.lineage.
CREATE OR REPLACE VIEW wrm_analytics.lineage AS
SELECT *
FROM analytics.lineage;
