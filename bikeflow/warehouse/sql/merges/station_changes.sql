-- Add later changes. What is added began anew: a first row that tells the known state again is left out; a station that
-- the first added snapshot no longer has is gone from it on.
MERGE INTO state.station_changes AS known
USING (
    WITH added AS (
        {added}
    ),
    last_states AS (
        SELECT system_id, dt, station_id, max_by(station_changes, (began_at, ordinal)) AS was
        FROM state.station_changes
        WHERE station_id IS NOT NULL
            AND (system_id, dt) IN (SELECT (system_id, dt) FROM temp.sources)
        GROUP BY ALL
    ),
    counts AS (
        SELECT system_id, dt, CAST(sum(snapshots) AS BIGINT) AS snapshots
        FROM state.station_changes
        WHERE station_id IS NULL
            AND (system_id, dt) IN (SELECT (system_id, dt) FROM temp.sources)
        GROUP BY ALL
    )
    SELECT added.* REPLACE (added.ordinal + coalesce(counts.snapshots, 0) AS ordinal)
    FROM added
    LEFT JOIN counts USING (system_id, dt)
    LEFT JOIN last_states USING (system_id, dt, station_id)
    WHERE NOT coalesce(
        added.ordinal = 0
            AND added.is_there
            AND was.is_there
            AND was.bikes IS NOT DISTINCT FROM added.bikes
            AND was.spaces IS NOT DISTINCT FROM added.spaces
            AND was.total_docks IS NOT DISTINCT FROM added.total_docks,
        false
    )
    UNION ALL BY NAME
    SELECT system_id, dt, station_id, began_at, counts.snapshots AS ordinal, false AS is_there, false AS is_last
    FROM last_states
    JOIN counts USING (system_id, dt)
    JOIN (
        SELECT system_id, dt, min(began_at) AS began_at
        FROM added
        WHERE ordinal = 0
            AND is_there
        GROUP BY ALL
    ) USING (system_id, dt)
    WHERE was.is_there
        AND (system_id, dt, station_id) NOT IN (
            SELECT (system_id, dt, station_id)
            FROM added
            WHERE ordinal = 0
                AND is_there
        )
) AS added
ON known.station_id IS NULL
    AND added.station_id IS NULL
    AND known.system_id = added.system_id
    AND known.dt = added.dt
    AND known.began_at = added.began_at
WHEN MATCHED THEN UPDATE SET snapshots = known.snapshots + added.snapshots
WHEN NOT MATCHED THEN INSERT BY NAME
