"""What operators ask and do: commands, status, problems, the queues."""
