-- Raw files that lie in no Parquet file: those of a segment that gave no row at all, and of one that is still to be
-- written (lines is null). The newest 2,000; part of pipeline_files.
CREATE OR REPLACE TABLE main.pipeline_files_without_rows AS
SELECT system_id, * EXCLUDE (system_id)
FROM working.state.files_without_rows
ORDER BY s3_source_key DESC;
