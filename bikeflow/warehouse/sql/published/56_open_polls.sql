-- Polls of days that are not closed in the lake yet. Part of feed_polls.
CREATE OR REPLACE VIEW main.open_polls AS
-- One name at a time: DuckDB keeps several in any order, and the same view would have two texts.
SELECT * EXCLUDE (dt)
FROM (
    FROM main.recent_polls
    UNION ALL BY NAME
    SELECT moved.* EXCLUDE (file_number)
    FROM (SELECT * EXCLUDE (number) FROM {moved_polls}) AS moved
    JOIN main.moved_days USING (system_id, dt)
    WHERE name = 'polls'
        AND file_number >= first_file_number
);
