"""What the API and the dashboard share of HTTP: event streams, and waits that end at shutdown."""
