"""A server's numbers, receipts, spans and log, and its reports to the service manager."""
