"""Two stories of what Bester does, played on real servers, handlers and clients: ``bester demo``.

The handlers here (``afrikaans``, ``portuguese``, ``english``, ``relay``) are separate programs that use the public SDK.
"""
