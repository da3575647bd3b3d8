"""HTTP in place of sockets: messages become calls of a URL, and calls of a URL become messages (docs/webhook.md).

Outgoing (:mod:`.calling`): a message of a configured type is posted, signed (:mod:`.signing`), and the answer is
executed (:mod:`.answers`). Incoming (:mod:`.taking`): a caller that proves to be a configured hook pushes what that
hook may.
"""
