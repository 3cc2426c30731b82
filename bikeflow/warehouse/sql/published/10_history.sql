-- Every enhanced row of all systems as of this publication, in no particular order. A filter on system_id or date reads the
-- files of those only.
CREATE OR REPLACE VIEW main.history AS
SELECT
    system_id,
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
    quality_flags,
    vehicle_type,
    is_returning,
    bikes_disabled,
    docks_disabled,
    range_meters
FROM {files};
