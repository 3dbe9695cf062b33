"""The dashboard: pages rendered on the server and updated by server-sent events. It contains no decisions."""
