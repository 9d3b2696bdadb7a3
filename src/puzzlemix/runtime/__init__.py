"""What everything stands on: errors, files, processes, signals, random streams. Imports no other folder."""
