"""Conformance suites for plug-ins, ours and yours: subclass one, name your component, run pytest."""
