"""The front door; lazy."""
