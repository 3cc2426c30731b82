-- How long an observation lasts, in microseconds: until the station's next one, but at most 30 minutes, as what happened
-- in a longer gap is unknown. A station's newest observation has no next one, and has not lasted yet. Nor does one whose
-- bikes are unknown: means are those of the time in which they are known.
CREATE OR REPLACE MACRO state.lasting_us(bikes, since, until) AS
    if(
        bikes IS NULL,
        0,
        least(greatest(coalesce(epoch_us(until) - epoch_us(since), 0), 0), 30 * 60 * 1000000)
    );
