"""PostgreSQL: COPY, set-based statements, and a fallback on the server."""
