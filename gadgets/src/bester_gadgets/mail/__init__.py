"""The gadget ``mail``: mail that comes by SMTP becomes messages, and messages become mail (docs/mail.md)."""
