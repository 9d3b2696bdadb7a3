"""The lowest layer, which imports no other folder: errors, files, processes, signals, random streams."""
