-- What every object and every column of this database means; column_name is null in an object's own row.
CREATE OR REPLACE TABLE wrm_analytics.catalog AS
SELECT object, kind, column_name, position, data_type, description, needs_files
FROM temp.catalog_entries
ORDER BY number, position;
