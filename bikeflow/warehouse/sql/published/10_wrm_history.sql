-- Every enhanced row as of this publication, in no particular order: the one to aggregate over long times, since nothing
-- is sorted for it. A filter on date reads the files of those days only.
CREATE OR REPLACE VIEW wrm_analytics.wrm_history AS
SELECT
    station_id,
    name,
    "timestamp",
    gmt_local_diff_sec,
    gmt_servertime_diff_sec,
    lat,
    lon,
    bikes,
    spaces,
    installed,
    locked,
    temporary,
    total_docks,
    givesbonus_acceptspedelecs_fbbattlevel,
    pedelecs,
    record_type,
    s3_source_key,
    file_timestamp,
    dt AS date,
    processed_at,
    battery_level,
    quality_flags
FROM {files};
