-- Each raw file, and what it gave: lines = rows + rejected. A filter on date or system_id reads little.
CREATE OR REPLACE VIEW main.pipeline_files AS
SELECT
    system_id,
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
FROM (
    FROM {raw_files}
    UNION ALL BY NAME
    FROM main.open_raw_files
)
UNION ALL
SELECT system_id, s3_source_key, date, file_timestamp, size_bytes, md5, "lines", "rows", rejected, 0, 0, 0
FROM main.pipeline_files_without_rows;
