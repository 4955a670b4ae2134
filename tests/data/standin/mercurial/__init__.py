"""The stand-in package."""
