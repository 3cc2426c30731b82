-- Add later observations to the hours of their stations.
MERGE INTO state.station_hours AS known
USING ({added}) AS added
ON known.system_id = added.system_id
    AND known.dt = added.dt
    AND known.date = added.date
    AND known.hour = added.hour
    AND known.station_id = added.station_id
WHEN MATCHED THEN UPDATE SET
    observations = known.observations + added.observations,
    bikes_known = known.bikes_known + added.bikes_known,
    bikes_sum = known.bikes_sum + added.bikes_sum,
    bikes_min = least(known.bikes_min, added.bikes_min),
    bikes_max = greatest(known.bikes_max, added.bikes_max),
    spaces_known = known.spaces_known + added.spaces_known,
    spaces_sum = known.spaces_sum + added.spaces_sum,
    spaces_min = least(known.spaces_min, added.spaces_min),
    spaces_max = greatest(known.spaces_max, added.spaces_max)
WHEN NOT MATCHED THEN INSERT BY NAME
