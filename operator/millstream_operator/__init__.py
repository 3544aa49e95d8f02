"""The control plane: watches the kinds, decides purely, writes only what differs. Never imports an engine."""
