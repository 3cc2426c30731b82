-- Every poll of a system's feed, and what it came to; times are UTC. A poll is one scheduled request for a snapshot, of
-- however many documents. A row stands for one poll, or for several in a row that did not happen for the same reason:
-- polls tells how many. The outcome is stored (a new snapshot), unchanged (the same content as before), not_modified
-- (the server says so), failed, not_a_feed (an answer that can't be used), lost (it could not be kept), skipped (no
-- request was made, though bikeflow was running), missed (bikeflow was not running, or the machine slept), or
-- unrecorded (the record of these polls is lost with a disk: coverage has what raw files tell). A filter on system_id
-- or due_at reads little.
CREATE OR REPLACE VIEW main.feed_polls AS
-- One name at a time: DuckDB keeps several in any order, and the same view would have two texts.
SELECT system_id, * EXCLUDE (system_id)
FROM (SELECT * EXCLUDE (dt) FROM {polls})
UNION ALL BY NAME
FROM main.open_polls;
