-- What the segments of a month saw of each station.
SELECT * FROM partials.joined_spans('working.partials.segment_spans', $month)
