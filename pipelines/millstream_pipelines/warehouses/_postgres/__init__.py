"""The parts of the PostgreSQL warehouse, one concern each."""
