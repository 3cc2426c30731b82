-- Join later spans to those of the same stations: the last state before lasts until the first one after.
MERGE INTO state.spans AS known
USING ({added}) AS added
ON known.system_id = added.system_id AND known.dt = added.dt AND known.station_id = added.station_id
WHEN MATCHED THEN UPDATE SET
    ended_at = added.ended_at,
    first_seen = least(known.first_seen, added.first_seen),
    last_seen = greatest(known.last_seen, added.last_seen),
    last_state = added.last_state,
    observations = known.observations + added.observations,
    bikes_us = known.bikes_us + added.bikes_us
        + state.lasting_us(known.last_state.bikes, known.ended_at, added.began_at) * CAST(coalesce(known.last_state.bikes, 0) AS HUGEINT),
    bikes_min = least(known.bikes_min, added.bikes_min),
    bikes_max = greatest(known.bikes_max, added.bikes_max),
    occupancy_us = known.occupancy_us + added.occupancy_us
        + state.lasting_us(known.last_state.bikes, known.ended_at, added.began_at) * coalesce(known.last_state.occupancy, 0),
    occupied_us = known.occupied_us + added.occupied_us
        + if(known.last_state.occupancy IS NULL, 0, state.lasting_us(known.last_state.bikes, known.ended_at, added.began_at)),
    observed_us = known.observed_us + added.observed_us + state.lasting_us(known.last_state.bikes, known.ended_at, added.began_at),
    empty_us = known.empty_us + added.empty_us
        + if(known.last_state.is_empty, state.lasting_us(known.last_state.bikes, known.ended_at, added.began_at), 0),
    full_us = known.full_us + added.full_us
        + if(known.last_state.is_full, state.lasting_us(known.last_state.bikes, known.ended_at, added.began_at), 0),
    newest = added.newest
WHEN NOT MATCHED THEN INSERT BY NAME
