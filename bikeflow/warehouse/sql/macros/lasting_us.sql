-- How long an observation lasts, in microseconds: until the station's next one, but no longer than 30 minutes, as nobody
-- knows what happened in a gap. A station's newest observation has no next one, and lasts nothing yet.
CREATE OR REPLACE MACRO partials.lasting_us(since, until) AS
    least(greatest(coalesce(epoch_us(until) - epoch_us(since), 0), 0), 30 * 60 * 1000000);
