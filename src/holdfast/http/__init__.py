"""HTTP code that the API and the dashboard share: event streams, and waits that end at shutdown or startup."""
