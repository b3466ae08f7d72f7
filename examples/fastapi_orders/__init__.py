"""A FastAPI service that takes orders; see README.md."""
