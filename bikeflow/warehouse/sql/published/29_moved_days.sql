-- The open days of which rows were moved to Parquet files. A row counts if its file has this number or a higher one.
CREATE OR REPLACE TABLE main.moved_days AS
SELECT name, system_id, dt, min(file_number) AS first_file_number
FROM working.state.moved
GROUP BY name, system_id, dt;
