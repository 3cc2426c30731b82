-- Add later bikes to the hours of their cells, and later snapshots to the hours' counts, which have no cell.
MERGE INTO state.cell_hours AS known
USING ({added}) AS added
ON known.system_id = added.system_id
    AND known.dt = added.dt
    AND known.date = added.date
    AND known.hour = added.hour
    AND known.grid_row IS NOT DISTINCT FROM added.grid_row
    AND known.grid_column IS NOT DISTINCT FROM added.grid_column
WHEN MATCHED THEN UPDATE SET
    bikes_sum = known.bikes_sum + added.bikes_sum,
    mobile_bikes_sum = known.mobile_bikes_sum + added.mobile_bikes_sum,
    snapshots = known.snapshots + added.snapshots
WHEN NOT MATCHED THEN INSERT BY NAME
