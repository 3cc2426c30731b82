"""Does it really work? What is seen of the roles, the verdict on each part, reports to systemd, alerts to people.

It learns from events and imports `settings`, `runtime` and `core`.
"""
