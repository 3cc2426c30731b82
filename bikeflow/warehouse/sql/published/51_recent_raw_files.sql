-- The newest raw files of days that are not sealed yet. Part of open_raw_files.
CREATE OR REPLACE TABLE main.recent_raw_files AS
FROM working.state.raw_files;
