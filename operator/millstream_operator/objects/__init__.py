"""Builders: facts in, manifests out. No client, no clock, no Kopf."""
