"""The hall that joins the rooms: the life of a server, its connections, handlers, other servers, accounts."""
