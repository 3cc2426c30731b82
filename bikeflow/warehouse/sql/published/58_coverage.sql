-- Coverage: the intervals in which the state of a system is known, and those in which it is not, with the reason. They
-- follow each other without a gap, also over midnight, from the first poll or snapshot of a system to its newest one.
-- What a good poll saw (outcome stored, unchanged or not_modified) is known from the second of its answer until the
-- next poll: until that one's answer if it is good as well, else until it was due, and for two intervals at most.
-- The reason for an unknown state is the outcome of the polls with their reason, such as "failed: timeout" or
-- "missed: not_running", or it is "late": no poll came within two intervals. Where polls are not recorded (before the
-- record begins, after it ends, or where it was lost with a disk), the raw files tell, also those of other programs, and
-- the source is "raw files": a snapshot is known until the next one, but at most for twice the median distance between
-- the snapshots of its partition, and at most for 30 minutes; after that the reason is "no_snapshot". Snapshots that are
-- dated in the future do not count yet.
CREATE OR REPLACE TABLE main.coverage AS
SELECT
    system_id,
    began_at,
    ended_at,
    known,
    reason,
    source,
    (epoch_us(ended_at) - epoch_us(began_at)) / 1e6 AS seconds
FROM working.state.coverage
ORDER BY system_id, began_at;
