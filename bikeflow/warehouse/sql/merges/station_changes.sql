-- Add later changes. What is added began anew: a first row that tells the known state again is left out; a station that
-- the first added snapshot no longer has is gone from it on.
INSERT INTO state.station_changes BY NAME
WITH added AS (
    {added}
),
known AS (
    SELECT
        system_id,
        dt,
        station_id,
        max_by({'bikes': bikes, 'spaces': spaces, 'total_docks': total_docks, 'is_there': is_there}, ordinal) AS was,
        CAST(sum(snapshots) AS BIGINT) AS snapshots
    FROM state.station_changes
    SEMI JOIN temp.snapshots USING (system_id, dt)
    GROUP BY ALL
)
SELECT added.* REPLACE (added.ordinal + coalesce(counts.snapshots, 0) AS ordinal)
FROM added
LEFT JOIN (FROM known WHERE station_id IS NULL) AS counts USING (system_id, dt)
LEFT JOIN (FROM known WHERE was.is_there) AS same
    ON same.system_id = added.system_id
    AND same.dt = added.dt
    AND same.station_id = added.station_id
    AND added.ordinal = 0
    AND added.is_there
    AND same.was.bikes IS NOT DISTINCT FROM added.bikes
    AND same.was.spaces IS NOT DISTINCT FROM added.spaces
    AND same.was.total_docks IS NOT DISTINCT FROM added.total_docks
WHERE same.station_id IS NULL
UNION ALL BY NAME
SELECT system_id, dt, station_id, began_at, counts.snapshots AS ordinal, false AS is_there, false AS is_last
FROM (FROM known WHERE was.is_there AND station_id IS NOT NULL)
JOIN (SELECT system_id, dt, snapshots FROM known WHERE station_id IS NULL) AS counts USING (system_id, dt)
JOIN (SELECT system_id, dt, taken_at AS began_at FROM temp.snapshots WHERE ordinal = 0) USING (system_id, dt)
ANTI JOIN (FROM added WHERE ordinal = 0 AND is_there) USING (system_id, dt, station_id)
