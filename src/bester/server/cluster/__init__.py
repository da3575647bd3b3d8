"""The other nodes of this server (docs/scale.md).

::

    node.py             ClusterNode: the cluster, for the rest of this node (server/ports.py)
    membership.py       the nodes that are there, and the types that they serve
    batcher.py          items to other nodes, gathered per turn of the loop
    incoming.py         items of other nodes, to the parts below
      remote_handlers.py  handlers of other nodes         remote_delivery.py  sessions on other nodes
      once_claims.py      one node for a once message     interest.py         accounts with sessions here
      presence.py         who is connected anywhere       queries.py          questions to all nodes
      leases.py           which node sends to which other server
      relays.py           messages over the node with the lease
"""
