"""What goes over the wire: frames, messages, names and addresses. No I/O, no clock, no globals."""
