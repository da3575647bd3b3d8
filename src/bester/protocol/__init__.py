"""The wire protocol: frames, messages, names and addresses. No I/O, no clock, no globals."""
