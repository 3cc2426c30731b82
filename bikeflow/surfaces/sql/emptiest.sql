-- The stations of the newest snapshot, inside the service area, with the smallest share of bikes to docks, the larger ones first.
SELECT
    name,
    bikes,
    spaces,
    total_docks,
    bikes = 0 AND spaces > 0 AS is_empty,
    bikes > 0 AND (spaces = 0 OR (total_docks > 0 AND bikes >= total_docks)) AS is_full,
    bikes / greatest(total_docks, 1) AS share
FROM wrm_current_rows
WHERE file_timestamp = getvariable('newest_snapshot')
    AND record_type = 'station'
    AND NOT list_contains(quality_flags, 'outside_service_area')
ORDER BY share, total_docks DESC, name
LIMIT 6
