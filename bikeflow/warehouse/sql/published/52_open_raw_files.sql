-- Raw files of days that are not sealed yet. Part of pipeline_files.
CREATE OR REPLACE VIEW main.open_raw_files AS
FROM main.recent_raw_files
UNION ALL BY NAME
SELECT moved.* EXCLUDE (file_number)
FROM {moved_raw_files} AS moved
JOIN main.moved_days USING (system_id, dt)
WHERE name = 'raw_files'
    AND file_number >= first_file_number;
