-- Join later spans to those of the same stations.
MERGE INTO state.spans AS known
USING ({added}) AS added
ON known.system_id = added.system_id AND known.dt = added.dt AND known.station_id = added.station_id
WHEN MATCHED THEN UPDATE SET
    first_seen = least(known.first_seen, added.first_seen),
    last_seen = greatest(known.last_seen, added.last_seen),
    observations = known.observations + added.observations,
    bikes_min = least(known.bikes_min, added.bikes_min),
    bikes_max = greatest(known.bikes_max, added.bikes_max),
    ended_at = added.ended_at,
    last_state = added.last_state,
    newest = added.newest
WHEN NOT MATCHED THEN INSERT BY NAME
