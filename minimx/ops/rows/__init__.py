"""The rows themselves, by subject. Every module here is imported: a new one needs no list."""
