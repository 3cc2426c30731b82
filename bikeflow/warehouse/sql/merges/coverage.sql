-- Add later snapshots to the day that they were taken on.
MERGE INTO state.coverage AS known
USING ({added}) AS added
ON known.system_id = added.system_id AND known.dt = added.dt AND known.day = added.day
WHEN MATCHED THEN UPDATE SET
    last_snapshot = added.last_snapshot,
    longest_gap_us = greatest(
        known.longest_gap_us,
        added.longest_gap_us,
        epoch_us(added.first_snapshot) - epoch_us(known.last_snapshot)
    )
WHEN NOT MATCHED THEN INSERT BY NAME
