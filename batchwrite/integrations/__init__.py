"""Listeners that hand on what they are told to other libraries, each with an extra of its own."""
