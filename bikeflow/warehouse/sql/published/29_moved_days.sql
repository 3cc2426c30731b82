-- Of which open days rows lie in files: those in files from this number on count.
CREATE OR REPLACE TABLE main.moved_days AS
SELECT name, system_id, dt, min(file_number) AS first_file_number
FROM working.state.moved
GROUP BY name, system_id, dt;
