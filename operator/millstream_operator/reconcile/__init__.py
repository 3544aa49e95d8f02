"""Decisions: (what is wanted, what is there, now) → Outcome. Pure: no client, no Kopf, no clock of its own."""
