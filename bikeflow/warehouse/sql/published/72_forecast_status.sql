-- What the forecast of a system stands on: on how many of the 56 days before before_date anything was known. With fewer
-- than 14 there is none. Empty where the setting warehouse.forecast is false.
CREATE OR REPLACE TABLE main.forecast_status AS
SELECT
    system_id,
    if(days < 14, format('not enough history: {} of 14 days', days), 'ready') AS status,
    days,
    before_date,
    pending
FROM working.state.forecast_status
ORDER BY system_id;
