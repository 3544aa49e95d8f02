"""The life cycle of tables: partitions made ahead, archives that are proven, what leaves, and the way back."""
