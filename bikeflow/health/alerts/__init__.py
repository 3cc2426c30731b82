"""Tells people, by the channels that they have named, when something goes wrong, and when it works again."""
