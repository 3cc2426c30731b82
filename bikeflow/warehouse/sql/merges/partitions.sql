-- Add what later raw files gave to a partition.
MERGE INTO state.partitions AS known
USING ({added}) AS added
ON known.system_id = added.system_id AND known.dt = added.dt
WHEN MATCHED THEN UPDATE SET
    files = known.files + added.files,
    "lines" = known."lines" + added."lines",
    rejected = known.rejected + added.rejected,
    "rows" = known."rows" + added."rows",
    station_rows = known.station_rows + added.station_rows,
    bike_rows = known.bike_rows + added.bike_rows,
    files_without_stations = known.files_without_stations + added.files_without_stations,
    {flag} = known.{flag} + added.{flag},
    snapshots = known.snapshots + added.snapshots,
    oldest_snapshot = coalesce(known.oldest_snapshot, added.oldest_snapshot),
    newest_snapshot = coalesce(added.newest_snapshot, known.newest_snapshot),
    newest_source_key = coalesce(added.newest_source_key, known.newest_source_key),
    newest_stations_at = coalesce(added.newest_stations_at, known.newest_stations_at),
    newest_stations_key = coalesce(added.newest_stations_key, known.newest_stations_key)
WHEN NOT MATCHED THEN INSERT BY NAME
