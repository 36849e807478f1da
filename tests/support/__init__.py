"""What several tests need: a server in its own process, a raw HTTP client, a view of a data folder."""
