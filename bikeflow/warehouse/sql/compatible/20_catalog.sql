-- The same as main.catalog.
CREATE OR REPLACE VIEW wrm_analytics.catalog AS
SELECT *
FROM main.catalog;
