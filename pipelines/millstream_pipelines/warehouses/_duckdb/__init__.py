"""The parts of the DuckDB warehouse."""
