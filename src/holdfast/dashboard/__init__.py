"""The dashboard: pages for people, rendered here and kept live by server-sent events. It decides nothing by itself."""
