"""The compiled packet path. Neutral words only: it knows nodes, tables and sessions, and nothing of ours above it."""
