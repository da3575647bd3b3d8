"""Message handlers: a function for each type, attached to a server or called by it in the classic form."""
