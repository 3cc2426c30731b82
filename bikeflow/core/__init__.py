"""The nouns of bikeflow: systems, partitions, segments, events, errors, the lake's keys, the columns of a row.

It imports nothing else of bikeflow.
"""
