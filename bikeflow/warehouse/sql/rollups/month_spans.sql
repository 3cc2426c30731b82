-- What the segments of a month saw of each station, but for the newest segments of all.
SELECT * FROM partials.joined_spans('working.partials.segment_spans', $first_segment, $next_segment)
