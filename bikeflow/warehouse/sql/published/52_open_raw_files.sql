-- Raw files of days that are not sealed yet. Part of pipeline_files.
CREATE OR REPLACE TABLE main.open_raw_files AS
FROM working.state.raw_files;
