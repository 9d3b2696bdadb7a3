"""What costs how much time, all in one process, beside a plain reference."""
