-- What every object and every column of this schema means; column_name is null in an object's own row.
CREATE OR REPLACE VIEW wrm_analytics.catalog AS
SELECT * EXCLUDE (schema_name)
FROM main.catalog
WHERE schema_name = 'wrm_analytics';
