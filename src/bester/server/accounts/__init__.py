"""Accounts: passwords, tokens, registration, and how attempts are slowed down."""
