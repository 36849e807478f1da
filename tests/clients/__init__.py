"""Real clients against a real server: each test ends by comparing what was stored with what was sent."""
