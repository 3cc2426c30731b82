-- The newest polls of days that are not closed in the lake yet. Part of open_polls.
CREATE OR REPLACE TABLE main.recent_polls AS
SELECT system_id, * EXCLUDE (system_id, number)
FROM working.state.polls
ORDER BY system_id, due_at;
