"""Messages to and from other servers (docs/protocol.md, section 8).

::

    federation.py       Federation: the table of destinations; which servers are let in, at which rate
    destination.py      Destination: opens the transport, and decides what its task does next
      pending.py          the messages in memory          backlog.py         the messages on disk
      recovery.py         failing over to the disk        backlog_reader.py  sending from the disk
      sender.py           owner of the transport          worker.py          the task
    outbound.py         OutboundMessage, with one outcome
    outbox.py           writes to the store, for all destinations
    transport.py        the protocols of a transport and its owner
      link.py             a link: one connection, many messages
      classic.py          the classic form: a connection per message
      relay.py            another node of this server
    dial.py             opens a link; peer_route.py: the route there
    trust.py            the identities of other servers
    ports.py            other nodes, incoming.py: links from other servers, which stand above this package
"""
