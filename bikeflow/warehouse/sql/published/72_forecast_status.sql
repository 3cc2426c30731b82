-- What the forecast of a system stands on: on how many of the 56 days before before_date anything was known. With fewer
-- than 14 there is none. Empty where the setting warehouse.forecast is false.
CREATE OR REPLACE TABLE main.forecast_status AS
SELECT
    system_id,
    CASE
        WHEN before_date IS NULL AND pending > 0 THEN 'not learnt yet'
        WHEN days < 14 THEN format('not enough history: {} of 14 days', days)
        ELSE 'ready'
    END AS status,
    days,
    before_date,
    pending
FROM working.state.forecast_status
ORDER BY system_id;
