"""Tells people, by the channels that they have named, when something is amiss, and when it works again."""
