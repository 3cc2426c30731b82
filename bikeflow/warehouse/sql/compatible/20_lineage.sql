-- The same as main.lineage.
CREATE OR REPLACE VIEW wrm_analytics.lineage AS
SELECT *
FROM main.lineage;
