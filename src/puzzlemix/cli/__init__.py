"""From a command line to the objects that a run puts together."""
