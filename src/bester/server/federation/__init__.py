"""Other servers: a destination for each, its queue, and how it is reached."""
