"""What costs how much time, everything that is compared in one process."""
