-- Polls of days that are not closed in the lake yet. Part of feed_polls.
CREATE OR REPLACE TABLE main.open_polls AS
SELECT system_id, * EXCLUDE (system_id, number, dt)
FROM working.state.polls
ORDER BY system_id, due_at;
