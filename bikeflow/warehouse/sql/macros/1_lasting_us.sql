-- How long an observation lasts, in microseconds: until the station's next one, but at most 30 minutes, as what happened
-- in a longer gap is unknown. A station's newest observation has no next one, and has not lasted yet.
CREATE OR REPLACE MACRO state.lasting_us(since, until) AS
    least(greatest(coalesce(epoch_us(until) - epoch_us(since), 0), 0), 30 * 60 * 1000000);
