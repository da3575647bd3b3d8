"""HTTP in place of sockets: messages become calls of a URL, and calls of a URL become messages (docs/webhook.md).

Outgoing (:mod:`.calling`): a message of a configured type is posted, signed (:mod:`.signing`), and the answer is
executed (:mod:`.answers`). Incoming (:mod:`.taking`): who proves to be a configured hook may push what that hook may.
"""
