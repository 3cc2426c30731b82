-- The same as analytics.catalog.
CREATE OR REPLACE VIEW wrm_analytics.catalog AS
SELECT *
FROM analytics.catalog;
