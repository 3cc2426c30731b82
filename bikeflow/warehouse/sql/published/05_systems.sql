-- The configured systems, and the time zones that their local dates and hours are of.
CREATE OR REPLACE TABLE main.systems AS
SELECT unnest(CAST(getvariable('systems') AS VARCHAR[])) AS system_id,
    unnest(CAST(getvariable('timezones') AS VARCHAR[])) AS timezone;
