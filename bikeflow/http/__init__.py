"""What the service shows: dashboard, health, metrics and API over HTTP, all of it told by the roles' events."""
