"""For operators: built-in commands, status, problems, the queues."""
