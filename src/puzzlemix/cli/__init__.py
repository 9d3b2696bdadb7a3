"""The command line of scripts, and the objects that it asks for."""
