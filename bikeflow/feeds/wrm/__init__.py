"""Wrocław's city bikes (WRM): its CSV document, from bytes to rows and dead letters."""
