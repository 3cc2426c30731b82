"""The service: it opens the shared parts, runs the roles, reloads the settings, and stops in order."""
