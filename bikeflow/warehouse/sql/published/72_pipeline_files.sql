-- Each raw file, and what it gave: lines = rows + rejected. A filter on date reads little.
CREATE OR REPLACE VIEW wrm_analytics.pipeline_files AS
SELECT
    s3_source_key,
    dt AS date,
    file_timestamp,
    size_bytes,
    md5,
    "lines",
    "rows",
    rejected,
    stations,
    bikes,
    flagged
FROM {raw_files}
UNION ALL
SELECT s3_source_key, date, file_timestamp, size_bytes, md5, "lines", "rows", rejected, 0, 0, 0
FROM wrm_analytics.pipeline_files_without_rows;
