-- What the segments of a month saw of each station. What the newest segments of all saw lies beside it.
SELECT * FROM partials.joined_spans('working.partials.settled_spans', $first_segment, $next_segment)
