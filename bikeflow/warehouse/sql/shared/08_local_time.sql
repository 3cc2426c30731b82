-- A time (UTC) by the clocks of a time zone.
CREATE OR REPLACE MACRO {schema}.local_time(utc, zone) AS
    timezone(zone, timezone('UTC', utc));
