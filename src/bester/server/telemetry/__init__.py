"""What a server tells about itself: rates, receipts, spans, logs."""
